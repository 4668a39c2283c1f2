"""One connection to a listener: stream, handshake, request, and what came of it. Judges nothing."""
