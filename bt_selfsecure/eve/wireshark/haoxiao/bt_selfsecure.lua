-- bt_selfsecure in Wireshark: filters btss.*, all carriers, expert infos, and decryption with a key log.
--
--   tshark -X lua_script:bt_selfsecure.lua -r eve.pcapng -Y btss
--   bt-selfsecure eve install-wireshark         puts it, with a profile, where Wireshark looks for it
--
-- Carriers: manufacturer data of company 0xffff, RFCOMM (any channel), L2CAP (PSM 0x1001, or where the connection's
-- beginning was not heard), UDP port 5700 (IPSP), and link type USER0. The wire is described in
-- docs/protocols/haoxiao.md; this file is held against tests/protocols/haoxiao/vectors by tests/eve/test_dissector.py.
--
-- Key log: Preferences, Protocols, BTSS, or -o btss.keylog_file:FILE. Then data frames are opened, as far as it has
-- their keys, and their messages are in btss.plain; what nodes carry for each other in them is in btss.relay.*.
--
-- Limits: what is a copy or a replay is judged by this file alone, direction by direction; link type USER0 shows no
-- directions. What a listener did not hear is not made up for: of an IPSP channel of which a segment was missed,
-- Wireshark joins no more in that direction.

-- Installed and named with -X lua_script it is read twice: whichever comes first counts.
if pcall(Field.new, "btss.kind") then return end

local folder = debug.getinfo(1, "S").source:sub(2):gsub("[^/\\]*$", "")
local crypto = dofile(folder .. "bt_selfsecure_crypto.lua")
local add_relayed = dofile(folder .. "bt_selfsecure_relay.lua")

local btss = Proto("btss", "bt_selfsecure")
btss.prefs.keylog_file = Pref.string("Key log file", "", "What --key-log wrote: lines BTSS_KI and BTSS_K0")
btss.prefs.udp_port = Pref.uint("UDP port", 5700, "Of the bearer ipsp")

local KINDS = {
  [0] = "request", "accept", "rand", "rand (compact)", "response", "acknowledge", "end", "rand list",
  [8] = "data", [9] = "ack", [10] = "call", [11] = "resync request", [12] = "resync response",
  [13] = "group fragment",
}
local VERSIONS = { [1] = "paper", [3] = "hardened" }
local REQUEST, ACCEPT, RAND, COMPACT, RESPONSE, ACKNOWLEDGE, END, LIST = 0, 1, 2, 3, 4, 5, 6, 7
local DATA, DATA_ACK, CALL, RESYNC_REQUEST, RESYNC_RESPONSE, FRAGMENT = 8, 9, 10, 11, 12, 13
local PAPER = 1
local RAND_BYTES = { [0] = 16, 16, 8, 2, 16, 16, 0, 8, [8] = 0, [9] = 0, [10] = 16, [11] = 16, [12] = 16, [13] = 1 }
local UNKEYED = { [REQUEST] = true, [ACCEPT] = true, [RAND] = true, [COMPACT] = true, [LIST] = true }
local OAEP_BYTES = 65

local function mac_bytes(version, kind)
  if kind == COMPACT then return 3 end
  if kind == DATA_ACK or kind == CALL or kind == RESYNC_REQUEST or kind == FRAGMENT then return 0 end
  if version == PAPER and kind ~= RAND and kind ~= RESPONSE and kind ~= RESYNC_RESPONSE then return 32 end
  return 16
end

-- Fields --------------------------------------------------------------------------------------------------------------

local f = {
  version = ProtoField.uint8("btss.version", "Version", base.DEC, VERSIONS, 0xf0),
  kind = ProtoField.uint8("btss.kind", "Kind", base.DEC, KINDS, 0x0f),
  phase = ProtoField.uint8("btss.phase", "Phase", base.DEC, { [0] = "establishment", "session" }, 0x08),
  retran = ProtoField.uint16("btss.retran", "Retran", base.DEC, nil, 0xf000),
  len = ProtoField.uint16("btss.len", "Len", base.DEC, nil, 0x0fff),
  seq = ProtoField.uint16("btss.seq", "Seq", base.DEC),
  rand = ProtoField.bytes("btss.rand", "Rand"),
  message = ProtoField.bytes("btss.message", "Message"),
  mac = ProtoField.bytes("btss.mac", "HMAC"),
  index = ProtoField.uint8("btss.index", "Index", base.DEC, nil, 0xf0),
  count = ProtoField.uint8("btss.count", "Count", base.DEC, nil, 0x0f),
  check = ProtoField.uint8("btss.check.status", "Unkeyed hash", base.DEC, { [0] = "wrong", "right" }),
  padded = ProtoField.bytes("btss.padded", "Padded by OAEP"),
  session = ProtoField.bytes("btss.session", "Session id"),
  pair = ProtoField.bytes("btss.pair", "Pair id"),
  identity = ProtoField.ether("btss.identity", "Identity"),
  flags = ProtoField.uint8("btss.flags", "Flags", base.HEX),
  compact = ProtoField.bool("btss.flags.compact", "Compact burst packets", 8, nil, 1),
  shares = ProtoField.bool("btss.flags.shares", "X25519 shares", 8, nil, 2),
  authentication = ProtoField.bool("btss.flags.authentication", "Authentication key in use", 8, nil, 4),
  continuity = ProtoField.bool("btss.flags.continuity", "Names a continuity key", 8, nil, 8),
  continuity2 = ProtoField.bool("btss.flags.continuity2", "And a second one", 8, nil, 16),
  burst = ProtoField.uint16("btss.burst", "N, packets of a part"),
  t1 = ProtoField.uint32("btss.t1", "T_1 in milliseconds"),
  commitment = ProtoField.bytes("btss.commitment", "Commitment to RandData"),
  part = ProtoField.bytes("btss.part", "Commitment to the messages of a part"),
  continuity_name = ProtoField.bytes("btss.continuity", "Name of a continuity key"),
  digests = ProtoField.bytes("btss.list.digests", "Digests of burst messages"),
  following = ProtoField.bytes("btss.list.following", "Commitment to the next piece"),
  share = ProtoField.bytes("btss.share", "X25519 public key"),
  cpr = ProtoField.bytes("btss.cpr", "Received set, compressed"),
  received = ProtoField.string("btss.received", "Received set S"),
  received_count = ProtoField.uint32("btss.received.count", "|S|"),
  nonce = ProtoField.bytes("btss.nonce", "Nonce"),
  ack = ProtoField.bytes("btss.ack", "ACK"),
  alpha = ProtoField.uint16("btss.alpha", "alpha"),
  following = ProtoField.uint16("btss.following", "Rounds that may follow"),
  round = ProtoField.uint64("btss.round", "Round"),
  answers = ProtoField.bytes("btss.answers", "Rand of the call it answers"),
  key_id = ProtoField.bytes("btss.key.id", "Key id"),
  key_mac = ProtoField.bytes("btss.key.mac", "HMAC under that key"),
  key = ProtoField.bytes("btss.key", "K_i from the key log"),
  plain_rand = ProtoField.bytes("btss.plain.rand", "Rand inside"),
  plain = ProtoField.bytes("btss.plain", "Message, decrypted"),
  text = ProtoField.string("btss.plain.text", "Message as text"),
  copy_of = ProtoField.framenum("btss.copy_of", "First heard in", base.NONE),
}
btss.fields = f

local function finding(name, text, group, severity)
  return ProtoExpert.new("btss." .. name, text, expert.group[group], expert.severity[severity])
end

local x = {
  length = finding("wrong_length", "Len or the datagram's length is wrong", "MALFORMED", "ERROR"),
  check = finding("wrong_check", "The unkeyed hash does not match", "CHECKSUM", "ERROR"),
  padding = finding("wrong_padding", "The OAEP padding or the header inside is wrong", "MALFORMED", "ERROR"),
  set = finding("wrong_set", "No encoding of a received set", "MALFORMED", "ERROR"),
  conflict = finding("conflict", "Another packet of this Seq says otherwise: an active attack", "SECURITY", "WARN"),
  replay = finding("replay", "Heard before, and others since: a replay", "SECURITY", "WARN"),
  copy = finding("copy", "A copy of what was heard before", "SEQUENCE", "CHAT"),
  keylog = finding("keylog", "The key log can't be read", "DECRYPTION", "WARN"),
}
btss.experts = x

-- What was heard before: kept in the first pass over the file, shown in each ------------------------------------------

local memory

local function forget()
  memory = {
    marks = {}, -- by packet and frame: what `judge` said of it
    frames = {}, -- by frame: the packet that brought it first
    bursts = {}, -- by establishment and Seq: the burst packet that came first
    rounds = {}, -- by direction and Seq: the packet with the newest data frame
    ours = {}, -- by direction: the packet with the first sound frame
    pieces = {}, streams = {}, -- by channel, what its datagram begins with; by packet, what it ends with
    opened = {}, likely = {}, -- by frame: its key and content; by Seq: which key to try first
    request = nil, burst = nil, -- the newest request, and whether a burst packet came after it
  }
end

local function way_of(pinfo)
  return tostring(pinfo.src) .. ">" .. tostring(pinfo.dst) .. "/" .. tostring(pinfo.p2p_dir)
end

-- Is this frame a copy, a replay, a contradiction? Copies of burst packets are normal: LE sends each on three channels.
local function judge(kind, seq, raw, pinfo)
  local first = memory.frames[raw]
  if kind == RAND or kind == COMPACT then
    local name = raw:sub(1, 2) .. seq .. "/" .. (kind == COMPACT and raw:sub(7, 10) or raw:sub(11, 26))
    local said = memory.bursts[name]
    memory.bursts[name] = said or raw
    memory.burst = true
    if said and said ~= raw then return "conflict" end
    if first then return "copy", first end
  elseif kind == DATA then
    local way = way_of(pinfo) .. "/"
    local following = memory.rounds[way .. (seq + 1) % 256]
    if first then return following and following > first and "replay" or "copy", first end
    memory.rounds[way .. seq] = pinfo.number
  elseif kind == REQUEST then
    local last = memory.request
    if first then return last == raw and not memory.burst and "copy" or "replay", first end
    memory.request, memory.burst = raw, false
  elseif first then
    return "copy", first
  end
  return nil
end

local function marked(kind, seq, raw, pinfo)
  local place = pinfo.number .. "/" .. raw
  if not pinfo.visited and not memory.marks[place] then
    local mark, first = judge(kind, seq, raw, pinfo)
    memory.frames[raw] = memory.frames[raw] or pinfo.number
    memory.marks[place] = { mark, first }
  end
  return memory.marks[place] or {}
end

-- Messages ------------------------------------------------------------------------------------------------------------

local function varints(bytes, from)
  local found, value, factor = {}, 0, 1
  for at = from, bytes:len() - 1 do
    local octet = bytes:get_index(at)
    value = value + (octet % 128) * factor
    factor = factor * 128
    if factor > 128 ^ 5 then return nil end
    if octet < 128 then found[#found + 1], value, factor = value, 0, 1 end
  end
  return factor == 1 and found or nil
end

-- S, ascending; nil if the bytes are no received set.
local function received_set(bytes)
  local set = {}
  if bytes:len() == 0 then return nil end
  if bytes:get_index(0) == 0 then
    local deltas, seq = varints(bytes, 1), 0
    for _, zigzag in ipairs(deltas or {}) do
      seq = seq + (zigzag % 2 == 0 and zigzag / 2 or -(zigzag + 1) / 2)
      set[#set + 1] = seq
    end
    return deltas and set
  end
  if bytes:get_index(0) ~= 1 then return nil end
  for at = 1, bytes:len() - 1 do
    for b = 0, 7 do
      if bit.band(bytes:get_index(at), bit.lshift(1, b)) ~= 0 then set[#set + 1] = (at - 1) * 8 + b end
    end
  end
  return set
end

local function ranges(set)
  local parts, first = {}, nil
  for i, seq in ipairs(set) do
    first = first or seq
    if set[i + 1] ~= seq + 1 then
      parts[#parts + 1] = first == seq and string.format("%d", seq) or string.format("%d-%d", first, seq)
      first = nil
    end
  end
  return table.concat(parts, ", ")
end

local function add_offer(tree, tvb, hardened, kind)
  if tvb:len() < 6 then return false end
  tree:add(f.identity, tvb(0, 6))
  if not hardened then return tvb:len() == 6 end
  if tvb:len() < 7 then return false end
  local flags = tree:add(f.flags, tvb(6, 1))
  flags:add(f.compact, tvb(6, 1))
  flags:add(f.shares, tvb(6, 1))
  flags:add(f.authentication, tvb(6, 1))
  flags:add(f.continuity, tvb(6, 1))
  flags:add(f.continuity2, tvb(6, 1))
  local at = 7
  if kind == REQUEST then
    if tvb:len() < 77 then return false end
    tree:add(f.burst, tvb(7, 2))
    tree:add(f.t1, tvb(9, 4))
    tree:add(f.commitment, tvb(13, 32))
    tree:add(f.part, tvb(45, 32))
    at = 77
  end
  local given = tvb(6, 1):uint()
  local share, names = bit.band(given, 2) ~= 0, bit.band(given, 24)
  if names == 16 or (names == 24 and kind == ACCEPT) then return false end
  local size = (share and 32 or 0) + names / 8 % 2 * 8 + math.floor(names / 16) * 8
  if tvb:len() ~= at + size then return false end
  if share then
    tree:add(f.share, tvb(at, 32))
    at = at + 32
  end
  for from = at, tvb:len() - 8, 8 do tree:add(f.continuity_name, tvb(from, 8)) end
  return true
end

local function add_keys(tree, tvb)
  local count = tvb:len() / 24
  if count ~= math.floor(count) then return false end
  for i = 0, count - 1 do
    tree:add(f.key_id, tvb(i * 8, 8))
    tree:add(f.key_mac, tvb(count * 8 + i * 16, 16))
  end
  return true
end

local message_of = {
  [REQUEST] = function(tree, tvb, hardened) return add_offer(tree, tvb, hardened, REQUEST) end,
  [ACCEPT] = function(tree, tvb, hardened)
    if tvb:len() < 9 then return false end
    tree:add(f.session, tvb(0, 8))
    return add_offer(tree, tvb(8):tvb(), hardened, ACCEPT)
  end,
  [RAND] = function(_, tvb) return tvb:len() == 32 end,
  [RESPONSE] = function(tree, tvb)
    if tvb:len() < 9 then return false end
    tree:add(f.pair, tvb(0, 8))
    local item = tree:add(f.cpr, tvb(8))
    local set = received_set(tvb(8):bytes())
    if not set then
      item:add_tvb_expert_info(x.set, tvb(8))
      return true
    end
    tree:add(f.received_count, tvb(8), #set):set_generated()
    tree:add(f.received, tvb(8), ranges(set)):set_generated()
    return true, string.format(" |S|=%d", #set)
  end,
  [ACKNOWLEDGE] = function(tree, tvb)
    if tvb:len() ~= 8 and tvb:len() ~= 40 then return false end
    tree:add(f.pair, tvb(0, 8))
    if tvb:len() == 40 then tree:add(f.part, tvb(8, 32)) end
    return true
  end,
  [LIST] = function(tree, tvb)
    local size = math.min(tvb:len(), 1000)
    if size == 0 or size % 4 ~= 0 or (tvb:len() > size and tvb:len() ~= size + 32) then return false end
    tree:add(f.digests, tvb(0, size))
    if tvb:len() > size then tree:add(f.following, tvb(size, 32)) end
    return true, string.format(" %d packets", size / 4)
  end,
  [END] = function(tree, tvb)
    if tvb:len() ~= 24 then return false end
    tree:add(f.pair, tvb(0, 8))
    tree:add(f.nonce, tvb(8, 16))
    return true
  end,
  [DATA] = function(_, tvb, hardened) return tvb:len() >= (hardened and 16 or 95) end,
  [DATA_ACK] = function(tree, tvb, hardened)
    if tvb:len() ~= (hardened and 16 or 34) then return false end
    tree:add(f.ack, tvb(0, hardened and 16 or 32))
    if not hardened then tree:add(f.alpha, tvb(32, 2)) end
    return true
  end,
  [CALL] = add_keys,
  [RESYNC_REQUEST] = function(tree, tvb)
    if tvb:len() < 24 then return false end
    tree:add(f.following, tvb(0, 2))
    tree:add(f.round, tvb(2, 6))
    tree:add(f.answers, tvb(8, 16))
    return tvb:len() == 24 or add_keys(tree, tvb(24):tvb())
  end,
  [RESYNC_RESPONSE] = function(tree, tvb)
    if tvb:len() ~= 32 then return false end
    tree:add(f.answers, tvb(0, 16))
    tree:add(f.key_id, tvb(16, 8))
    tree:add(f.round, tvb(24, 8))
    return true
  end,
}

-- Decryption ----------------------------------------------------------------------------------------------------------

local keys, keys_path, keys_fault = {}, nil, nil

-- By the low 8 bits of the round: a list of rounds and their K_i. BTSS_K0 gives round 0 of both directions.
local function load_keys()
  keys, keys_path, keys_fault = {}, btss.prefs.keylog_file, nil
  if keys_path == "" then return end
  local file, fault = io.open(keys_path, "r")
  if not file then
    keys_fault = fault
    return
  end
  local seen = {}
  local function add(round, key)
    local low = round:byte(8)
    if seen[round .. key] then return end
    seen[round .. key] = true
    keys[low] = keys[low] or {}
    table.insert(keys[low], { round = round, key = key })
  end
  for line in file:lines() do
    local label, name, key = line:match("^BTSS_(K[0I])%s+(%x+)%s+(%x+)%s*$")
    if label == "KI" and #name == 18 and #key == 64 then
      add(crypto.from_hex(name:sub(3)), crypto.from_hex(key))
    elseif label == "K0" and #key == 64 then
      for _, first in ipairs(crypto.chain_keys(crypto.from_hex(key))) do add(("\0"):rep(8), first) end
    end
  end
  file:close()
end

-- Rand and Message of a data frame, if its key is in the log. Of several rounds with this Seq the one next to what was
-- opened last is the likeliest; all are tried.
local function opened(version, retran, seq, message, mac, raw, fresh)
  if fresh and memory.opened[raw] == nil then
    memory.opened[raw] = false
    local likely = memory.likely[seq] or 1
    local list = keys[seq] or {}
    for i = 0, #list - 1 do
      local at = (likely - 1 + i) % #list + 1
      local found = crypto.open(version, list[at].key, list[at].round, retran, message, mac)
      if found then
        memory.likely[seq] = at % #list + 1
        memory.opened[raw] = { list[at].key, found.rand, found.message }
        break
      end
    end
  end
  return memory.opened[raw]
end

local function bytes_tvb(raw, name)
  return ByteArray.new(crypto.to_hex(raw)):tvb(name)
end

local function add_plain(tree, found)
  local whole = bytes_tvb(found[1] .. found[2] .. found[3], "bt_selfsecure, decrypted")
  tree:add(f.key, whole(0, 32)):set_generated()
  tree:add(f.plain_rand, whole(32, 16)):set_generated()
  if #found[3] > 0 then
    tree:add(f.plain, whole(48)):set_generated()
    tree:add(f.text, whole(48), (found[3]:gsub("[^%g ]", "."))):set_generated()
    return add_relayed(whole(48):tvb(), tree)
  end
end

-- One frame -----------------------------------------------------------------------------------------------------------

local function padded(version, kind)
  return version == PAPER and (kind == REQUEST or kind == ACCEPT)
end

-- Whether this can be index and count: as many fragments have data, and one more is their parity.
local function is_fragment(octet)
  return octet % 16 > 0 and math.floor(octet / 16) <= octet % 16
end

-- Whether Len, or where there is none the kind, agrees with the size.
local function sound(version, kind, tvb)
  if kind == COMPACT then return tvb:len() == 24 end
  if kind == FRAGMENT then return version ~= PAPER and tvb:len() == 24 and is_fragment(tvb(2, 1):uint()) end
  local rest = tvb:len() - (kind >= 8 and 4 or 5) - RAND_BYTES[kind] - mac_bytes(version, kind)
  if padded(version, kind) then rest = rest - OAEP_BYTES - 5 end
  return rest >= 0 and tvb(1, 2):uint() % 4096 == rest
end

-- Version and kind, if it is one of ours. Other people's frames may begin like ours: only after a sound one of the same
-- sender are malformed ones taken for ours too; or where the carrier is `certain`.
local function known(tvb, pinfo, certain)
  if tvb:len() < 1 then return nil end
  local version, kind = math.floor(tvb(0, 1):uint() / 16), tvb(0, 1):uint() % 16
  if not VERSIONS[version] or not KINDS[kind] then return nil end
  local way = way_of(pinfo)
  if sound(version, kind, tvb) and not pinfo.visited then memory.ours[way] = memory.ours[way] or pinfo.number end
  local first = memory.ours[way]
  return (certain or first and first <= pinfo.number) and version or nil, kind
end

-- Whether the unkeyed hash is right.
local function add_checked(tree, tvb, octets)
  local covered = tvb(0, tvb:len() - octets):raw()
  local right = crypto.sha256(covered):sub(1, octets) == tvb(tvb:len() - octets, octets):raw()
  local item = tree:add(f.check, tvb(tvb:len() - octets, octets), right and 1 or 0)
  item:set_generated()
  if not right then item:add_tvb_expert_info(x.check, tvb(tvb:len() - octets, octets)) end
  return right
end

-- Rand and Message of a padded request or accept of `paper`, or nil.
local function unpadded(tvb, tree)
  local head, size = tvb(0, 5):raw(), tvb:len() - 5 - 32
  local range = tvb(5, size)
  local item = tree:add(f.padded, range)
  local plain = size > OAEP_BYTES and crypto.oaep_decode(range:raw())
  if not plain or plain:sub(1, 5) ~= head or #plain <= 5 then
    item:add_tvb_expert_info(x.padding, range)
    return nil
  end
  return bytes_tvb(plain:sub(6), "bt_selfsecure, without OAEP")
end

local MARK_INFO = { conflict = " [conflict]", replay = " [replay]", copy = " [copy]" }

local function add_marks(tree, tvb, kind, seq, pinfo)
  local mark, first = table.unpack(marked(kind, seq, tvb():bytes():tohex(), pinfo))
  if not mark then return "" end
  if first then tree:add(f.copy_of, tvb(0, 1), first):set_generated() end
  tree:add_tvb_expert_info(x[mark], tvb())
  return MARK_INFO[mark]
end

local function dissect_compact(tvb, pinfo, tree)
  if tvb:len() ~= 24 then return nil end
  tree:add(f.seq, tvb(1, 2))
  tree:add(f.rand, tvb(3, 2))
  tree:add(f.message, tvb(5, 16))
  tree:add(f.mac, tvb(21, 3))
  return tvb(1, 2):uint()
end

local function dissect_fragment(version, tvb, tree)
  if version == PAPER or tvb:len() ~= 24 or not is_fragment(tvb(2, 1):uint()) then return nil end
  tree:add(f.seq, tvb(1, 1))
  local rand = tree:add(f.rand, tvb(2, 1))
  rand:add(f.index, tvb(2, 1))
  rand:add(f.count, tvb(2, 1))
  tree:add(f.message, tvb(3, 21))
  local index, count = math.floor(tvb(2, 1):uint() / 16), tvb(2, 1):uint() % 16
  local which = index == count and "parity of %d" or index + 1 .. " of %d"
  return tvb(1, 1):uint(), " " .. string.format(which, count)
end

-- Rand and Message, of which `body` is made. Whether their lengths are right; what to say of them; and the message.
local function dissect_body(kind, body, len, hardened, tree)
  local rand = RAND_BYTES[kind]
  if (body and body:len() or 0) ~= rand + len then return false end
  if rand > 0 then tree:add(f.rand, body(0, rand)) end
  if kind == RAND then tree:add(f.session, body(0, rand)) end
  if len == 0 then return kind == CALL end
  local message = body(rand)
  local fits, info = message_of[kind](tree:add(f.message, message), message:tvb(), hardened)
  return fits, info, message:raw()
end

-- Seq, what to say of it, and what decryption needs; nil if a length is wrong.
local function dissect_fields(version, kind, tvb, tree)
  local start, octets = kind >= 8 and 4 or 5, mac_bytes(version, kind)
  local size = tvb:len() - start - octets
  if size < 0 then return nil end
  tree:add(f.retran, tvb(1, 2))
  tree:add(f.len, tvb(1, 2))
  local seq, retran, len = tvb(3, start - 3), math.floor(tvb(1, 2):uint() / 4096), tvb(1, 2):uint() % 4096
  tree:add(f.seq, seq)
  if octets > 0 then tree:add(f.mac, tvb(tvb:len() - octets, octets)) end
  local body
  if padded(version, kind) then
    body = unpadded(tvb, tree)
    if not body then return seq:uint() end -- damaged, which was said: its length can't be told
  elseif size > 0 then
    body = tvb(start, size):tvb()
  end
  local fits, info, message = dissect_body(kind, body, len, version ~= PAPER, tree)
  if not fits then return nil end
  return seq:uint(), info, { retran = retran, message = message }
end

local function dissect_frame(tvb, pinfo, tree, certain)
  local version, kind = known(tvb, pinfo, certain)
  if not version then return 0 end
  pinfo.cols.protocol = "BTSS"
  local branch = tree:add(btss, tvb(), "bt_selfsecure, " .. KINDS[kind] .. " (" .. VERSIONS[version] .. ")")
  branch:add(f.version, tvb(0, 1))
  branch:add(f.phase, tvb(0, 1))
  branch:add(f.kind, tvb(0, 1))
  local seq, info, sealed
  if kind == COMPACT then
    seq = dissect_compact(tvb, pinfo, branch)
  elseif kind == FRAGMENT then
    seq, info = dissect_fragment(version, tvb, branch)
  else
    seq, info, sealed = dissect_fields(version, kind, tvb, branch)
  end
  if not seq then
    branch:add_tvb_expert_info(x.length, tvb())
    pinfo.cols.info = KINDS[kind] .. " [wrong length]"
    return tvb:len()
  end
  local damaged = UNKEYED[kind] and not add_checked(branch, tvb, mac_bytes(version, kind))
  local marks = damaged and " [damaged]" or add_marks(branch, tvb, kind, seq, pinfo)
  local line = string.format("%s Seq=%d%s%s", KINDS[kind], seq, info or "", marks)
  if kind == DATA then
    local octets = mac_bytes(version, kind)
    local raw = tvb():raw()
    local found = opened(version, sealed.retran, seq, sealed.message, raw:sub(-octets), raw, not pinfo.visited)
    if found then
      local relayed = add_plain(branch, found)
      line = line .. string.format(" decrypted, %d bytes", #found[3]) .. (relayed or "")
    end
    if keys_fault then branch:add_proto_expert_info(x.keylog, keys_fault) end
  end
  pinfo.cols.info = line
  return tvb:len()
end

-- Carriers ------------------------------------------------------------------------------------------------------------

local LONGEST_FRAME = 5000

-- Bytes to the end of the datagram that begins here; negative where there are too many, or it can't be one.
local function missing(stream)
  if #stream < 2 then return 2 - #stream end
  local size = stream:byte(1) * 256 + stream:byte(2)
  return size <= LONGEST_FRAME and 2 + size - #stream or -1
end

-- The datagram that one more piece completes. After a piece that was not heard any may begin a datagram: all are kept,
-- the latest first, until one is whole.
local function completed(name, piece)
  local begun, open, found = memory.pieces[name] or {}, {}, false
  table.insert(begun, 1, "")
  for _, before in ipairs(begun) do
    local stream = before .. piece
    if missing(stream) == 0 then
      found = stream:sub(3)
      break
    end
    if missing(stream) > 0 and #open < 16 then open[#open + 1] = stream end
  end
  memory.pieces[name] = open
  return found
end

-- Datagrams in an RFCOMM stream, each with its length before it; put together in the first pass.
local function dissect_stream(tvb, pinfo, tree, name)
  local place = pinfo.number .. "/" .. name
  if not pinfo.visited and memory.streams[place] == nil then
    memory.streams[place] = completed(name, tvb():raw())
  end
  local datagram = memory.streams[place]
  if not datagram or datagram == "" then return 0 end
  local whole = #datagram == tvb:len() - 2 and tvb(2):tvb() or bytes_tvb(datagram, "bt_selfsecure, put together")
  return dissect_frame(whole, pinfo, tree) > 0 and tvb:len() or 0
end

local rfcomm = Proto("btss_rfcomm", "bt_selfsecure over RFCOMM")
function rfcomm.dissector(tvb, pinfo, tree)
  return dissect_stream(tvb, pinfo, tree, way_of(pinfo) .. "/" .. tostring(pinfo.match_uint))
end

local UIH, UIH_CREDITS = 0xef, 0xff

-- DLCI and information of an RFCOMM frame with data (TS 07.10, 5.2), or nil.
local function rfcomm_frame(tvb)
  if tvb:len() < 4 then return nil end
  local control, credit = tvb(1, 1):uint(), 0
  if control ~= UIH and control ~= UIH_CREDITS then return nil end
  if control == UIH_CREDITS then credit = 1 end
  local start, length = 3, math.floor(tvb(2, 1):uint() / 2)
  if tvb(2, 1):uint() % 2 == 0 then start, length = 4, length + tvb(3, 1):uint() * 128 end
  if tvb:len() ~= start + credit + length + 1 then return nil end
  if crypto.rfcomm_check(tvb(0, 2):raw()) ~= tvb(tvb:len() - 1, 1):uint() then return nil end
  return math.floor(tvb(0, 1):uint() / 4), length > 0 and tvb(start + credit, length):tvb() or nil
end

-- A channel whose beginning was not heard, so that nothing says what it carries. Where Wireshark knows, it shall tell.
local psm = Field.new("btl2cap.psm")
local l2cap = Proto("btss_l2cap", "bt_selfsecure over L2CAP")
function l2cap.dissector(tvb, pinfo, tree)
  if psm() then return 0 end
  local dlci, information = rfcomm_frame(tvb)
  if not dlci then return dissect_frame(tvb, pinfo, tree) end
  if dlci == 0 or not information then return 0 end
  return dissect_stream(information, pinfo, tree, way_of(pinfo) .. "/" .. dlci)
end

local IPSP_DATA, IPSP_HEAD_BYTES = 3, 5
local ipsp = Proto("btss_ipsp", "bt_selfsecure over IPSP")
function ipsp.dissector(tvb, pinfo, tree)
  if tvb:len() <= IPSP_HEAD_BYTES or tvb(0, 1):uint() ~= IPSP_DATA then return 0 end
  local size = dissect_frame(tvb(IPSP_HEAD_BYTES):tvb(), pinfo, tree)
  return size > 0 and tvb:len() or 0
end

-- Manufacturer data: of a company that anybody may use for tests.
function btss.dissector(tvb, pinfo, tree)
  return dissect_frame(tvb, pinfo, tree)
end

local bare = Proto("btss_bare", "bt_selfsecure, bare")
function bare.dissector(tvb, pinfo, tree)
  return dissect_frame(tvb, pinfo, tree, true)
end

function btss.init()
  forget()
  load_keys()
end

local port
local function set_port()
  local udp = DissectorTable.get("udp.port")
  if port then udp:remove(port, ipsp) end
  port = btss.prefs.udp_port
  udp:add(port, ipsp)
end

function btss.prefs_changed()
  if port ~= btss.prefs.udp_port then set_port() end
  if keys_path ~= btss.prefs.keylog_file then load_keys() end
end

forget()
set_port()
DissectorTable.get("wtap_encap"):add(wtap.USER0, bare)
DissectorTable.get("btcommon.eir_ad.manufacturer_company_id"):add(0xffff, btss)
DissectorTable.get("btl2cap.psm"):add(0x1001, bare)
for cid = 0x40, 0x7f do DissectorTable.get("btl2cap.cid"):add(cid, l2cap) end
for dlci = 2, 61 do DissectorTable.get("btrfcomm.dlci"):add(dlci, rfcomm) end
