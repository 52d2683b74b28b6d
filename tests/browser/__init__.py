"""JupyterLab, Assignment List, Validate and formgrader as people use them, in a real browser."""
