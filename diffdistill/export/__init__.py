"""What others get: pipelines with a model card, untrained students, LoRAs, uploads."""
