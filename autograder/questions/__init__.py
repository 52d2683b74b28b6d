"""What is asked of a recording or of an answer: one module per assignment, of the same name."""
