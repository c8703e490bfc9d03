"""What protocols are made of: the exchange itself, TLS around one, and HTTP's text. Pure."""
