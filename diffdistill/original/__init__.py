"""The layout of the original checkpoints of Stable Diffusion: which name a tensor of diffusers or transformers has there."""
