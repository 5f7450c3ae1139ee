"""All that is known of a run before a weight is loaded."""
