"""Pages for a phone, which it is told the address of: their server, who is let in, and the page of pairing."""
