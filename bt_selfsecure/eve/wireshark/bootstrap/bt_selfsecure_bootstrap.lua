-- Kang's bootstrapping in Wireshark, profile hardened: filter btss_bootstrap.*
--
--   tshark -X lua_script:bt_selfsecure_bootstrap.lua -r eve.pcapng -Y btss_bootstrap
--   bt-selfsecure eve install-wireshark         puts it where Wireshark looks for it
--
-- Flights 2, 3, 6 and 7 between controller and server (UDP 5701), 5 and 8 between node and controller (UDP 5702): other
-- ports in Preferences, Protocols. Flights 1 and 4 travel out of band: where they are seen on a network, that is told.
-- What is sealed stays so. The wire is described in docs/protocols/bootstrap.md; tests/eve/test_bootstrap_dissector.py
-- holds this to it.

if pcall(Field.new, "btss_bootstrap.flight") then return end

local VERSION, HEADER_BYTES = 1, 10
local FLIGHTS = {
  { size = 34, text = "a node asks to join (out of band)" },
  { size = 84, text = "controller to server: a node asks" },
  { size = 66, text = "server to controller: PSK" },
  { size = 42, text = "the controller's answer (out of band)" },
  { size = 26, text = "the node has the PSK", tag = true },
  { size = 52, text = "controller to server: the node has the PSK" },
  { size = 26, text = "server to controller: the PSK is in force" },
  { size = 26, text = "the network has the PSK", tag = true },
}
local names = {}
for number, flight in ipairs(FLIGHTS) do names[number] = flight.text end

local proto = Proto("btss_bootstrap", "Kang's bootstrapping")
proto.prefs.server_port = Pref.uint("UDP port of servers", 5701, "Flights 2, 3, 6, 7")
proto.prefs.nid_port = Pref.uint("UDP port of controllers", 5702, "Flights 5, 8")

local f = {
  version = ProtoField.uint8("btss_bootstrap.version", "Version"),
  flight = ProtoField.uint8("btss_bootstrap.flight", "Flight", base.DEC, names),
  tid = ProtoField.uint64("btss_bootstrap.tid", "TID", base.DEC),
  node = ProtoField.bytes("btss_bootstrap.node", "ID"),
  rn_i = ProtoField.bytes("btss_bootstrap.rn_i", "RN_i"),
  sealed = ProtoField.bytes("btss_bootstrap.sealed", "Sealed, with its tag (CCM)"),
  tag = ProtoField.bytes("btss_bootstrap.tag", "Tag (CMAC)"),
}
proto.fields = f
local misplaced = ProtoExpert.new("btss_bootstrap.misplaced",
  "A flight that travels out of band: whoever has the installer's key and sees it here may have the PSK",
  expert.group.SECURITY, expert.severity.WARN)
local again = ProtoExpert.new("btss_bootstrap.again", "The same flight was there: repeated, or a replay",
  expert.group.SEQUENCE, expert.severity.NOTE)
proto.experts = { misplaced, again }

local first -- by the flight's bytes: the packet that had it first

function proto.init() first = {} end

function proto.dissector(tvb, pinfo, tree)
  if tvb:len() < 2 or tvb(0, 1):uint() ~= VERSION then return 0 end
  local number = tvb(1, 1):uint()
  local flight = FLIGHTS[number]
  if not flight or flight.size ~= tvb:len() then return 0 end
  pinfo.cols.protocol = "Bootstrap"
  local branch = tree:add(proto, tvb(), string.format("Kang's bootstrapping, flight %d", number))
  branch:add(f.version, tvb(0, 1))
  branch:add(f.flight, tvb(1, 1))
  if number == 1 then
    branch:add(f.node, tvb(2, 8))
    branch:add(f.rn_i, tvb(10, 16))
    branch:add(f.tag, tvb(26, 8))
    pinfo.cols.info = string.format("flight 1: %s", flight.text)
  else
    branch:add(f.tid, tvb(2, 8))
    branch:add(flight.tag and f.tag or f.sealed, tvb(HEADER_BYTES))
    pinfo.cols.info = string.format("flight %d, TID %s: %s", number, tostring(tvb(2, 8):uint64()), flight.text)
  end
  if number == 1 or number == 4 then branch:add_proto_expert_info(misplaced) end
  local bytes = tvb:raw()
  if not pinfo.visited then first[bytes] = first[bytes] or pinfo.number end
  if first[bytes] and first[bytes] ~= pinfo.number then branch:add_proto_expert_info(again) end
  return tvb:len()
end

local ports = DissectorTable.get("udp.port")
local taken = { proto.prefs.server_port, proto.prefs.nid_port }
for _, port in ipairs(taken) do ports:add(port, proto) end

function proto.prefs_changed()
  for _, port in ipairs(taken) do ports:remove(port, proto) end
  taken = { proto.prefs.server_port, proto.prefs.nid_port }
  for _, port in ipairs(taken) do ports:add(port, proto) end
end
