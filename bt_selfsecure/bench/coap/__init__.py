"""What CoAP costs over each scheme, beside libcoap in the same run: the papers' figures and their table."""
