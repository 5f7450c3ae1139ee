"""The model card of an exported pipeline: what it is, how it was trained, how good it is and by which protocol."""

from diffdistill.export.card.source import Source, find_source
from diffdistill.export.card.speed import check_measured, read_speed
from diffdistill.export.card.write import Card, write_card

__all__ = ["Card", "Source", "check_measured", "find_source", "read_speed", "write_card"]
