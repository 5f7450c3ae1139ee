"""What a student is: a keep list, and what follows from it. Torch and diffusers only, for any training loop."""
