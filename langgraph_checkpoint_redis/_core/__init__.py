"""Operations: what each method of a saver asks of the server, and how it reads the answer."""
