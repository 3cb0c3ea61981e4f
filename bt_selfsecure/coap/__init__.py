"""CoAP (RFC 7252) by aiocoap, secured by any of our protocols: the one room that knows aiocoap."""
