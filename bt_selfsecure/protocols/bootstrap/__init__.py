"""Kang's bootstrapping ("A First Step Towards Security for Internet of Small Things"), in two profiles."""
