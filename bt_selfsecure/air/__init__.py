"""The simulated radio: loss models, virtual time, virtual Bluetooth, one tap per listener."""
