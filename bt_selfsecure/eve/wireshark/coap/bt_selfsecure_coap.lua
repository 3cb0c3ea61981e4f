-- D-OTP's object layer and Sabour's handshake in Wireshark: filters btss_dotp.* and btss_sabour.*, and decryption.
--
--   tshark -X lua_script:bt_selfsecure_coap.lua -r eve.pcapng -Y "btss_dotp || btss_sabour"
--   bt-selfsecure eve install-wireshark         puts it where Wireshark looks for it
--
-- It looks at CoAP's port 5683, and takes a conversation for D-OTP's that begins as no CoAP of version 1 does and as a
-- serial does; all else goes on to Wireshark's own dissector of CoAP, and M1 to M4 in it are shown, too. M1 to M4 of the
-- profile paper are on port 5588. Other ports: Preferences, Protocols. The wire is described in docs/protocols/dotp.md
-- and docs/protocols/sabour.md; tests/eve/test_coap_dissector.py holds this to it.
--
-- Decryption, of the profile hardened: -o btss_dotp.key_file:FILE, as `bt-selfsecure coap key` writes it.
--
-- Limits: a D-OTP datagram shows no profile: where a tag has room it is taken for hardened, unless the preference says
-- otherwise. A conversation of which the capture has nothing before number 2^30 is taken for CoAP. With a key, the first
-- 256 epochs are tried.

if pcall(Field.new, "btss_dotp.serial") then return end

local crypto = dofile(debug.getinfo(1, "S").source:sub(2):gsub("[^/\\]*$", "") .. "bt_selfsecure_crypto.lua")
local coap = Dissector.get("coap")

-- What is malformed is shown as that, and is no fault of this file.
local function as_coap(tvb, pinfo, tree)
  pcall(function() coap:call(tvb, pinfo, tree) end)
end

-- D-OTP ---------------------------------------------------------------------------------------------------------------

local SERIAL_BYTES, TAG_BYTES, EPOCH_NUMBERS, MOST_EPOCHS = 4, 16, 65536, 256

local dotp = Proto("btss_dotp", "D-OTP, object layer")
dotp.prefs.key_file = Pref.string("Key file", "", "Lines `IDENTITY KEY`, as coap key writes them")
dotp.prefs.udp_port = Pref.uint("UDP port", 5683, "Of CoAP")
dotp.prefs.paper = Pref.bool("Profile paper", false, "Datagrams have no tag")

local d = {
  serial = ProtoField.uint32("btss_dotp.serial", "Serial", base.DEC),
  tag = ProtoField.bytes("btss_dotp.tag", "Tag (SIV)"),
  sealed = ProtoField.bytes("btss_dotp.sealed", "Message, encrypted"),
  identity = ProtoField.string("btss_dotp.identity", "Identity in the key file"),
  sender = ProtoField.string("btss_dotp.sender", "Sent by"),
}
dotp.fields = d
local again = ProtoExpert.new("btss_dotp.again", "A serial of this sender's that was there: a copy, or a replay",
  expert.group.SEQUENCE, expert.severity.NOTE)
local fault = ProtoExpert.new("btss_dotp.key_file_fault", "The key file can't be read",
  expert.group.DECRYPTION, expert.severity.WARN)
dotp.experts = { again, fault }

local directions, keys_path, keys_fault -- of each key in the file two: what leads to their keys, by epoch
local opened, first_with -- by packet: what was opened; by sender and serial: the packet that had it first
local is_dotp, kinds -- by packet, and by conversation: whether it is D-OTP's

local function load_keys()
  directions, keys_path, keys_fault = {}, dotp.prefs.key_file, nil
  if keys_path == "" then return end
  local file, why = io.open(keys_path, "r")
  if not file then
    keys_fault = why
    return
  end
  for line in file:lines() do
    local identity, key = line:match("^(%S+)%s+(%x+)%s*$")
    if key and #key == 64 then
      for _, sender in ipairs({ "client", "server" }) do
        local secret = crypto.expand(crypto.from_hex(key), "btss dotp " .. sender, 32)
        directions[#directions + 1] = { identity = identity, sender = sender, epochs = { [0] = secret }, keys = {} }
      end
    end
  end
  file:close()
end

local function block(counter)
  local high = math.floor(counter / 2 ^ 24)
  return ("\0"):rep(12) .. string.char(high, math.floor(counter / 65536) % 256, math.floor(counter / 256) % 256,
    counter % 256)
end

-- K_n of a direction, or nil for an epoch that is too far.
local function key_of(direction, number)
  local epoch, counter = math.floor(number / EPOCH_NUMBERS), number % EPOCH_NUMBERS
  if epoch >= MOST_EPOCHS then return nil end
  for each = 1, epoch do
    direction.epochs[each] = direction.epochs[each] or crypto.expand(direction.epochs[each - 1], "btss dotp next", 32)
  end
  direction.keys[epoch] = direction.keys[epoch] or crypto.expand(direction.epochs[epoch], "btss dotp key", 32)
  local key = direction.keys[epoch]
  return crypto.aes(key, block(2 * counter)) .. crypto.aes(key, block(2 * counter + 1))
end

local function opened_by(raw)
  local serial = raw:sub(1, SERIAL_BYTES)
  local a, b, c, e = serial:byte(1, 4)
  for _, direction in ipairs(directions) do
    local key = key_of(direction, a * 2 ^ 24 + b * 65536 + c * 256 + e)
    local text = key and crypto.siv_open(key, serial, raw:sub(5, 20), raw:sub(21))
    if text then return { direction, text } end
  end
  return false
end

-- Of what no CoAP of version 1 is: the first datagram that says decides for its conversation. Serials begin at 0, so the
-- bits where CoAP has its version are 0 until number 2^30; and that version was never anybody's.
local function looks_like_dotp(tvb, pinfo)
  local ends = { tostring(pinfo.src) .. "/" .. pinfo.src_port, tostring(pinfo.dst) .. "/" .. pinfo.dst_port }
  table.sort(ends)
  local conversation, version = table.concat(ends, " "), tvb(0, 1):bitfield(0, 2)
  if kinds[conversation] == nil and version < 2 then kinds[conversation] = version == 0 and tvb:len() > SERIAL_BYTES end
  return kinds[conversation] == true
end

local function dissect_dotp(tvb, pinfo, tree)
  if tvb:len() <= SERIAL_BYTES then return 0 end
  local hardened = not dotp.prefs.paper and tvb:len() > SERIAL_BYTES + TAG_BYTES
  local start = hardened and SERIAL_BYTES + TAG_BYTES or SERIAL_BYTES
  local serial = tvb(0, SERIAL_BYTES)
  pinfo.cols.protocol = "D-OTP"
  pinfo.cols.info = string.format("serial %d, %d bytes", serial:uint(), tvb:len() - start)
  local branch = tree:add(dotp, tvb(), hardened and "D-OTP, object layer" or "D-OTP, object layer (paper)")
  branch:add(d.serial, serial)
  if hardened then branch:add(d.tag, tvb(SERIAL_BYTES, TAG_BYTES)) end
  branch:add(d.sealed, tvb(start))
  local place = tostring(pinfo.src) .. "/" .. pinfo.src_port .. "/" .. serial:uint()
  first_with[place] = first_with[place] or pinfo.number
  if first_with[place] ~= pinfo.number then branch:add_tvb_expert_info(again, serial) end
  if keys_fault then branch:add_proto_expert_info(fault, keys_fault) end
  if hardened and opened[pinfo.number] == nil then opened[pinfo.number] = opened_by(tvb():raw()) end
  local found = opened[pinfo.number]
  if found then
    branch:add(d.identity, found[1].identity):set_generated()
    branch:add(d.sender, found[1].sender):set_generated()
    local text = ByteArray.new(crypto.to_hex(found[2])):tvb("D-OTP, decrypted")
    as_coap(text, pinfo, tree)
    pinfo.cols.protocol = "D-OTP"
    pinfo.cols.info:prepend(string.format("serial %d, ", serial:uint()))
  end
  return tvb:len()
end

-- Sabour's handshake --------------------------------------------------------------------------------------------------

local sabour = Proto("btss_sabour", "Sabour's handshake")
sabour.prefs.udp_port = Pref.uint("UDP port", 5588, "Of the handshake in the profile paper")

local NAMES = { "M1", "M2", "M3", "M4", "refusal" }
local PROFILES = { "paper", "hardened" }
local s = {
  profile = ProtoField.uint8("btss_sabour.profile", "Profile", base.DEC, PROFILES, 0xf0),
  kind = ProtoField.uint8("btss_sabour.kind", "Message", base.DEC, NAMES, 0x0f),
  device = ProtoField.bytes("btss_sabour.device", "Device id"),
  text = ProtoField.string("btss_sabour.text", "Text"),
  share = ProtoField.bytes("btss_sabour.share", "PK"),
  signature = ProtoField.bytes("btss_sabour.signature", "SIG"),
}
sabour.fields = s

-- By the first octet: for each size that it can have, the fields and their sizes.
local FORMS = {
  [0x11] = { [73] = { { "device", 8 }, { "share", 64 } } },
  [0x12] = { [76] = { { "text", 11 }, { "share", 64 } } },
  [0x13] = { [65] = { { "signature", 64 } }, [33] = { { "signature", 32 } } },
  [0x14] = { [65] = { { "signature", 64 } }, [33] = { { "signature", 32 } } },
  [0x15] = { [20] = { { "text", 19 } } },
  [0x21] = { [41] = { { "device", 8 }, { "share", 32 } } },
  [0x22] = { [33] = { { "share", 32 } } },
  [0x23] = { [65] = { { "signature", 64 } } },
  [0x24] = { [65] = { { "signature", 64 } } },
}

local function dissect_sabour(tvb, pinfo, tree)
  local forms = tvb:len() > 0 and FORMS[tvb(0, 1):uint()]
  local form = forms and forms[tvb:len()]
  if not form then return 0 end
  local octet = tvb(0, 1)
  local name, profile = NAMES[octet:uint() % 16], PROFILES[math.floor(octet:uint() / 16)]
  local branch = tree:add(sabour, tvb(), "Sabour's handshake, " .. name .. " (" .. profile .. ")")
  branch:add(s.profile, octet)
  branch:add(s.kind, octet)
  local at = 1
  for _, field in ipairs(form) do
    branch:add(s[field[1]], tvb(at, field[2]))
    at = at + field[2]
  end
  pinfo.cols.protocol = "Sabour"
  pinfo.cols.info = name .. " (" .. profile .. ")"
  return tvb:len()
end

function sabour.dissector(tvb, pinfo, tree)
  return dissect_sabour(tvb, pinfo, tree)
end

-- CoAP's port ---------------------------------------------------------------------------------------------------------

-- Where the payload of a CoAP message begins (RFC 7252 section 3), or nil.
local function payload_of(tvb)
  local at, size = 4 + tvb(0, 1):uint() % 16, tvb:len()
  local function length(nibble)
    if nibble < 13 then return nibble end
    local octets = nibble - 12
    if octets > 2 or at + octets > size then return nil end
    local more = tvb(at, octets):uint() + (octets == 1 and 13 or 269)
    at = at + octets
    return more
  end
  while at < size do
    local octet = tvb(at, 1):uint()
    at = at + 1
    if octet == 0xff then return at < size and at or nil end
    local delta = length(math.floor(octet / 16))
    local value = delta and length(octet % 16)
    if not value then return nil end
    at = at + value
  end
  return nil
end

function dotp.dissector(tvb, pinfo, tree)
  if tvb:len() < 4 then return 0 end
  if is_dotp[pinfo.number] == nil then is_dotp[pinfo.number] = looks_like_dotp(tvb, pinfo) end
  if is_dotp[pinfo.number] then return dissect_dotp(tvb, pinfo, tree) end
  as_coap(tvb, pinfo, tree)
  local start = payload_of(tvb)
  if start then dissect_sabour(tvb(start):tvb(), pinfo, tree) end
  return tvb:len()
end

function dotp.init()
  opened, first_with, is_dotp, kinds = {}, {}, {}, {}
  load_keys()
end

local ports = {}
local function set_port(proto)
  local udp = DissectorTable.get("udp.port")
  if ports[proto.name] then udp:remove(ports[proto.name], proto) end
  ports[proto.name] = proto.prefs.udp_port
  udp:add(ports[proto.name], proto)
end

function dotp.prefs_changed()
  if ports[dotp.name] ~= dotp.prefs.udp_port then set_port(dotp) end
  if keys_path ~= dotp.prefs.key_file then load_keys() end
end

function sabour.prefs_changed()
  if ports[sabour.name] ~= sabour.prefs.udp_port then set_port(sabour) end
end

opened, first_with, is_dotp, kinds, directions = {}, {}, {}, {}, {}
set_port(dotp)
set_port(sabour)
