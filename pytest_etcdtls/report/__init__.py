"""What a run came to, for people and for programs. Knows results and observations, and no pytest."""
