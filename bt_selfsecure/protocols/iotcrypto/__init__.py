"""IoT-Crypto: certificates, trust as business has it, and the two protocols between devices, gateways and a cloud."""
