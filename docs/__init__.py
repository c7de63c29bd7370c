"""What is made from the code: the reference of settings and routes."""
