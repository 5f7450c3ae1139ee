"""Pictures of teachers, students and pipelines, side by side."""
