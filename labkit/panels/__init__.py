"""What a student sees beside the code: the workspace panel, the live view of a training, the gradient explorer.

Each panel is a widget in Python and a script of the same name in `static/`. Python computes and sends plain data; the
browser draws. Nothing here is imported before a notebook asks for it, and everything has a form without a notebook.
"""
