-- IoT-Crypto in Wireshark: what it says in clear, the gateways' advertisements: filter btss_iotcrypto.*
--
--   tshark -X lua_script:bt_selfsecure_iotcrypto.lua -r network.pcapng -Y btss_iotcrypto
--   bt-selfsecure eve install-wireshark         puts it where Wireshark looks for it
--
-- UDP 5710, [id 16, negotiation port, transmission port] in CBOR: another port in Preferences, Protocols. All else is in
-- DTLS, which Wireshark shows by itself. Nothing proves an advertisement: where one id is at two addresses, that is told.
-- The wire is described in docs/protocols/iotcrypto.md; tests/eve/test_iotcrypto_dissector.py holds this to it.

if pcall(Field.new, "btss_iotcrypto.id") then return end

local HEAD, ID_BYTES = 0x8350, 16 -- an array of three, octets of 16
local proto = Proto("btss_iotcrypto", "IoT-Crypto advertisement")
proto.prefs.port = Pref.uint("UDP port of advertisements", 5710, "To which gateways send")

local f = {
  id = ProtoField.bytes("btss_iotcrypto.id", "Id of the gateway's certificate"),
  negotiation = ProtoField.uint16("btss_iotcrypto.negotiation_port", "Negotiation port"),
  transmission = ProtoField.uint16("btss_iotcrypto.transmission_port", "Transmission port"),
}
proto.fields = f
local elsewhere = ProtoExpert.new("btss_iotcrypto.elsewhere",
  "The same gateway's id came from another address: it has several, or somebody sends its advertisement again",
  expert.group.SECURITY, expert.severity.WARN)
proto.experts = { elsewhere }

local first -- by id: the address that had it first, of each family

function proto.init() first = {} end

-- An unsigned number of CBOR, in its shortest form: where it ends, the range, and the value; nothing for anything else.
local function number(tvb, at)
  if at >= tvb:len() then return end
  local head = tvb(at, 1):uint()
  local size = ({ [24] = 1, [25] = 2 })[head]
  if head < 24 then return at + 1, tvb(at, 1), head end
  if not size or at + 1 + size > tvb:len() then return end
  local value = tvb(at + 1, size):uint()
  if value < (size == 1 and 24 or 256) then return end
  return at + 1 + size, tvb(at, 1 + size), value
end

function proto.dissector(tvb, pinfo, tree)
  if tvb:len() < 2 + ID_BYTES or tvb(0, 2):uint() ~= HEAD then return 0 end
  local middle, negotiation_at, negotiation = number(tvb, 2 + ID_BYTES)
  if not middle then return 0 end
  local last, transmission_at, transmission = number(tvb, middle)
  if last ~= tvb:len() or negotiation == 0 or transmission == 0 then return 0 end
  local id = tvb(2, ID_BYTES)
  pinfo.cols.protocol = "IoT-Crypto"
  pinfo.cols.info = string.format("gateway %s advertises ports %d and %d", id:bytes():tohex(true), negotiation,
    transmission)
  local branch = tree:add(proto, tvb(), "IoT-Crypto, advertisement of a gateway")
  branch:add(f.id, id)
  branch:add(f.negotiation, negotiation_at, negotiation)
  branch:add(f.transmission, transmission_at, transmission)
  local from = tostring(pinfo.src)
  local key = id:bytes():tohex() .. (from:find(":", 1, true) and " 6" or " 4")
  if not pinfo.visited then first[key] = first[key] or from end
  if first[key] and first[key] ~= from then branch:add_proto_expert_info(elsewhere) end
  return tvb:len()
end

local ports, taken = DissectorTable.get("udp.port"), proto.prefs.port
ports:add(taken, proto)

function proto.prefs_changed()
  ports:remove(taken, proto)
  taken = proto.prefs.port
  ports:add(taken, proto)
end
