"""What leaves the house: pipelines with a model card, untrained students, LoRAs, uploads."""
