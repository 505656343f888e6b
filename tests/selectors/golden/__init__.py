"""What the authors' own functions gave for inputs that can be made again bit for bit, and how ours compare.

``data/METHOD.json`` holds numbers alone: settings, kept tokens, and for rows that took others in their length and their
product with :func:`.inputs.probe`, five digits each. Sets of tokens are bit masks in hexadecimal digits, token 0 being
the highest bit. :mod:`.inputs` makes the inputs, :mod:`.agreement` compares.
"""
