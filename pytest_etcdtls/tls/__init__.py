"""One connection to a listener: stream, handshake, request and result. Nothing is judged here."""
