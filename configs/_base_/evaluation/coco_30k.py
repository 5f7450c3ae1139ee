"""BK-SDM's protocol (Kim et al., 2023, arXiv:2305.15798; github.com/Nota-NetsPresso/BK-SDM, scripts/eval_scores.sh).

30,000 captions of MS-COCO's 2014 validation set, one picture of 512 x 512 each: PNDM, 25 steps, guidance scale 7.5. The
pictures are squeezed to 256 x 256 for all scores. FID is pytorch-fid's, to the statistics of the 40,504 pictures of that set
at 256 x 256; Inception Score is torch-fidelity's; the CLIP score is that of ViT-g/14.

Both data files are fetched by `mim run diffdistill get_data coco_30k data` (docs/recipes.md), the
weights by the link in docs/metrics.md.
"""

test_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="CaptionList", source="data/mscoco_val2014_30k/metadata.csv", seed=1234),
)
test_evaluator = [
    dict(
        type="FID",
        reference="data/mscoco_val2014_41k_full/real_im256.npz",
        weights="data/weights-inception-2015-12-05-6726825d.pth",
        resize=256,
        like="pytorch-fid",
    ),
    dict(type="InceptionScore", weights="data/weights-inception-2015-12-05-6726825d.pth", resize=256),
    dict(type="CLIPScore", checkpoint="laion/CLIP-ViT-g-14-laion2B-s34B-b88K", resize=256),
]
# Without Runge-Kutta steps, whatever the checkpoint's own scheduler says: 26 evaluations, not 34.
test_cfg = dict(
    sampling=dict(
        scheduler=dict(type="PNDMScheduler", skip_prk_steps=True),
        num_inference_steps=25,
        guidance_scale=7.5,
        height=512,
        width=512,
    )
)
