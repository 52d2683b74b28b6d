"""Who is in a simulated class, and what each of them does: one module per assignment, of the same name."""
