"""What is measured about the subjects: one file a scenario."""
