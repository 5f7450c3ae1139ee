"""diffdistill: distil text-to-image diffusion models into smaller and faster students."""

__version__ = "0.1.0"
