"""The radio that is not there: loss models, virtual time, virtual Bluetooth, one tap per listener."""
