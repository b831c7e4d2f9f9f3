"""The HTTP edge over small fakes: what each request is answered with."""
