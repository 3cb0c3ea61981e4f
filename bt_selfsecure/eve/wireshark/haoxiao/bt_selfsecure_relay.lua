-- bt_selfsecure in Wireshark: what nodes carry for each other, in messages to port 11 of a session: filters btss.relay.*
--
-- bt_selfsecure.lua reads this, and gives it what it has decrypted. Layout: docs/protocols/relay.md.

-- Where Wireshark looks, it reads this file by itself, too: whichever comes first counts.
if btss_relay_of then return btss_relay_of end

local proto = Proto("btss_relay", "bt_selfsecure, relayed")

local HEAD_BYTES, IDENTITY_BYTES = 18, 6
local KINDS = { [0] = "datagram", "request", "reply", "error", "share" }
local DATAGRAM, REQUEST, REPLY, ERROR, SHARE = 0, 1, 2, 3, 4
local FAULTS = {
  [0] = "unknown link", "no way", "not for them", "busy", "closed", "other way", "same relay",
}

local f = {
  version = ProtoField.uint8("btss.relay.version", "Version", base.DEC, nil, 0xf0),
  ttl = ProtoField.uint8("btss.relay.ttl", "Hops left", base.DEC, nil, 0x0f),
  kind = ProtoField.uint8("btss.relay.kind", "Kind", base.DEC, KINDS),
  source = ProtoField.ether("btss.relay.source", "Source"),
  destination = ProtoField.ether("btss.relay.destination", "Destination"),
  link = ProtoField.uint32("btss.relay.link", "Link", base.HEX),
  via = ProtoField.ether("btss.relay.via", "Relay on the way"),
  open = ProtoField.uint8("btss.relay.open", "Open", base.DEC, { [0] = "a share is awaited", "yes" }),
  fault = ProtoField.uint8("btss.relay.fault", "Why", base.DEC, FAULTS),
  by = ProtoField.ether("btss.relay.by", "Told by"),
  second = ProtoField.uint8("btss.relay.second", "Of the second way", base.DEC),
  other = ProtoField.uint32("btss.relay.other", "The other way's link", base.HEX),
  share = ProtoField.bytes("btss.relay.share", "Share of the authentication key"),
  datagram = ProtoField.bytes("btss.relay.datagram", "Datagram between the two ends"),
}
proto.fields = f

local function add_path(tree, tvb, start)
  for at = start, tvb:len() - IDENTITY_BYTES, IDENTITY_BYTES do tree:add(f.via, tvb(at, IDENTITY_BYTES)) end
end

-- Adds a decrypted fragment of a session to the tree, if it is a whole relay frame; what to say of it, or nil.
function btss_relay_of(tvb, tree)
  -- The node's own octet: port 11, first, no more to come.
  if tvb:len() < 1 + HEAD_BYTES or tvb(0, 1):uint() ~= 11 * 4 + 2 then return nil end
  tvb = tvb(1):tvb()
  local kind, size = tvb(1, 1):uint(), tvb:len() - HEAD_BYTES
  if math.floor(tvb(0, 1):uint() / 16) ~= 1 or not KINDS[kind] then return nil end
  local branch = tree:add(proto, tvb(), "bt_selfsecure, relayed " .. KINDS[kind])
  branch:add(f.version, tvb(0, 1))
  branch:add(f.ttl, tvb(0, 1))
  branch:add(f.kind, tvb(1, 1))
  branch:add(f.source, tvb(2, 6))
  branch:add(f.destination, tvb(8, 6))
  branch:add(f.link, tvb(14, 4))
  if kind == DATAGRAM and size > 0 then
    branch:add(f.datagram, tvb(HEAD_BYTES))
  elseif kind == REQUEST then
    add_path(branch, tvb, HEAD_BYTES)
  elseif kind == REPLY and size > 0 then
    branch:add(f.open, tvb(HEAD_BYTES, 1))
    add_path(branch, tvb, HEAD_BYTES + 1)
  elseif kind == ERROR and size == 1 + IDENTITY_BYTES then
    branch:add(f.fault, tvb(HEAD_BYTES, 1))
    branch:add(f.by, tvb(HEAD_BYTES + 1, IDENTITY_BYTES))
  elseif kind == SHARE and size > 5 then
    branch:add(f.second, tvb(HEAD_BYTES, 1))
    branch:add(f.other, tvb(HEAD_BYTES + 1, 4))
    branch:add(f.share, tvb(HEAD_BYTES + 5))
  end
  return string.format(", relayed %s %s to %s", KINDS[kind], tostring(tvb(2, 6):ether()), tostring(tvb(8, 6):ether()))
end

return btss_relay_of
