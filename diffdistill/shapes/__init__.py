"""A text-to-image world that two CPU cores can train, distil and measure, with nothing downloaded."""
