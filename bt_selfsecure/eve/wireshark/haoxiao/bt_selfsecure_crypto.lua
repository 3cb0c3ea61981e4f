-- SHA-256, AES and what the protocols make of them, for the other files here. Strings of bytes in and out.
--
-- FIPS 180-4, FIPS 197, RFC 2104 (HMAC), RFC 5869 (HKDF-Expand), RFC 5297 (AES-SIV), RFC 8017 7.1 (OAEP). Wireshark's
-- Lua has none of them. Slow, and open to whoever measures time: for looking at captures, nothing else.

local crypto = {}
local band, bor, bxor, bnot = bit.band, bit.bor, bit.bxor, bit.bnot
local lshift, rshift, ror = bit.lshift, bit.rshift, bit.ror

function crypto.from_hex(text)
  return (text:gsub("%x%x", function(octet) return string.char(tonumber(octet, 16)) end))
end

function crypto.to_hex(bytes)
  return (bytes:gsub(".", function(octet) return string.format("%02x", octet:byte()) end))
end

local function xor(a, b)
  local out = {}
  for i = 1, math.min(#a, #b) do out[i] = string.char(bxor(a:byte(i), b:byte(i))) end
  return table.concat(out)
end

local function u32(value)
  return string.char(
    band(rshift(value, 24), 255), band(rshift(value, 16), 255), band(rshift(value, 8), 255), band(value, 255))
end

local function from_u32(bytes, at)
  local a, b, c, d = bytes:byte(at, at + 3)
  return bor(lshift(a, 24), lshift(b, 16), lshift(c, 8), d)
end

-- SHA-256 -------------------------------------------------------------------------------------------------------------

-- The first 32 bits of the fraction of a root of each prime (FIPS 180-4, 4.2.2 and 5.3.3).
local primes, roots, start = {}, {}, {}
do
  local candidate = 2
  while #primes < 64 do
    local prime = true
    for _, divisor in ipairs(primes) do
      if candidate % divisor == 0 then prime = false break end
    end
    if prime then primes[#primes + 1] = candidate end
    candidate = candidate + 1
  end
  local function fraction(root) return math.floor((root % 1) * 2 ^ 32) end
  for i, prime in ipairs(primes) do
    roots[i] = fraction(prime ^ (1 / 3))
    if i <= 8 then start[i] = fraction(prime ^ 0.5) end
  end
end

function crypto.sha256(message)
  local size = #message
  message = message .. "\128" .. ("\0"):rep((55 - size) % 64)
  message = message .. u32(math.floor(size / 2 ^ 29)) .. u32(size * 8 % 2 ^ 32)
  local h = { table.unpack(start) }
  local w = {}
  for block = 1, #message, 64 do
    for i = 1, 16 do w[i] = from_u32(message, block + 4 * (i - 1)) end
    for i = 17, 64 do
      local s0 = bxor(ror(w[i - 15], 7), ror(w[i - 15], 18), rshift(w[i - 15], 3))
      local s1 = bxor(ror(w[i - 2], 17), ror(w[i - 2], 19), rshift(w[i - 2], 10))
      w[i] = band(w[i - 16] + s0 + w[i - 7] + s1, 0xffffffff)
    end
    local a, b, c, d, e, g, j, k = table.unpack(h)
    for i = 1, 64 do
      local s1 = bxor(ror(e, 6), ror(e, 11), ror(e, 25))
      local choice = bxor(band(e, g), band(bnot(e), j))
      local t1 = k + s1 + choice + roots[i] + w[i]
      local s0 = bxor(ror(a, 2), ror(a, 13), ror(a, 22))
      local majority = bxor(band(a, b), band(a, c), band(b, c))
      k, j, g, e = j, g, e, band(d + t1, 0xffffffff)
      d, c, b, a = c, b, a, band(t1 + s0 + majority, 0xffffffff)
    end
    for i, value in ipairs({ a, b, c, d, e, g, j, k }) do h[i] = band(h[i] + value, 0xffffffff) end
  end
  for i = 1, 8 do h[i] = u32(h[i]) end
  return table.concat(h)
end

function crypto.hmac(key, data)
  if #key > 64 then key = crypto.sha256(key) end
  key = key .. ("\0"):rep(64 - #key)
  local inner = crypto.sha256(xor(key, ("\54"):rep(64)) .. data)
  return crypto.sha256(xor(key, ("\92"):rep(64)) .. inner)
end

function crypto.expand(key, info, length)
  local out, block = "", ""
  for i = 1, math.ceil(length / 32) do
    block = crypto.hmac(key, block .. info .. string.char(i))
    out = out .. block
  end
  return out:sub(1, length)
end

-- EME-OAEP with SHA-256 and an empty label, no padding string; nil if that is not what it is.
function crypto.oaep_decode(padded)
  local function mask(seed, length)
    local out = ""
    for i = 0, math.ceil(length / 32) - 1 do out = out .. crypto.sha256(seed .. u32(i)) end
    return out:sub(1, length)
  end
  local seed, db = padded:sub(1, 32), padded:sub(33)
  seed = xor(seed, mask(db, 32))
  db = xor(db, mask(seed, #db))
  if db:sub(1, 32) ~= crypto.sha256("") or db:byte(33) ~= 1 then return nil end
  return db:sub(34)
end

-- AES-128 and AES-256, forwards only ----------------------------------------------------------------------------------

local sbox = {}
do
  local p, q = 1, 1 -- q is the inverse of p in GF(2^8), all the way round
  repeat
    p = band(bxor(p, p * 2, p >= 128 and 0x11b or 0), 255)
    q = bxor(q, q * 2)
    q = bxor(q, q * 4)
    q = band(bxor(q, q * 16), 255)
    if q >= 128 then q = bxor(q, 9) end
    local s = bxor(q, lshift(q, 1), lshift(q, 2), lshift(q, 3), lshift(q, 4))
    sbox[p] = bxor(band(bxor(s, rshift(s, 8)), 255), 0x63)
  until p == 1
  sbox[0] = 0x63
end

local function double(octet)
  return octet >= 128 and bxor(octet * 2, 0x11b) or octet * 2
end

local function schedule(key)
  local w, rcon, words = { key:byte(1, -1) }, 1, #key / 4
  for i = #key + 1, 16 * (words + 7), 4 do
    local t = { w[i - 4], w[i - 3], w[i - 2], w[i - 1] }
    local word = (i - 1) / 4
    if word % words == 0 then
      t = { bxor(sbox[t[2]], rcon), sbox[t[3]], sbox[t[4]], sbox[t[1]] }
      rcon = double(rcon)
    elseif words == 8 and word % 8 == 4 then
      for j = 1, 4 do t[j] = sbox[t[j]] end
    end
    for j = 0, 3 do w[i + j] = bxor(w[i + j - #key], t[j + 1]) end
  end
  return w
end

local function encrypt(w, block)
  local s, rounds = { block:byte(1, 16) }, #w / 16 - 1
  for i = 1, 16 do s[i] = bxor(s[i], w[i]) end
  for round = 1, rounds do
    local t = {}
    for column = 0, 3 do
      for row = 0, 3 do t[column * 4 + row + 1] = sbox[s[(column + row) % 4 * 4 + row + 1]] end
    end
    if round < rounds then
      for c = 1, 13, 4 do
        local a, b, d, e = t[c], t[c + 1], t[c + 2], t[c + 3]
        local all = bxor(a, b, d, e)
        t[c], t[c + 1] = bxor(a, all, double(bxor(a, b))), bxor(b, all, double(bxor(b, d)))
        t[c + 2], t[c + 3] = bxor(d, all, double(bxor(d, e))), bxor(e, all, double(bxor(e, a)))
      end
    end
    for i = 1, 16 do s[i] = bxor(t[i], w[round * 16 + i]) end
  end
  return string.char(table.unpack(s))
end

local function ctr(key, counter, data)
  local w, out = schedule(key), {}
  local octets = { counter:byte(1, 16) }
  for at = 1, #data, 16 do
    out[#out + 1] = xor(encrypt(w, string.char(table.unpack(octets))), data:sub(at, at + 15))
    for i = 16, 1, -1 do
      octets[i] = (octets[i] + 1) % 256
      if octets[i] ~= 0 then break end
    end
  end
  return table.concat(out)
end

-- AES-SIV -------------------------------------------------------------------------------------------------------------

local function doubled(block)
  local out, carry = {}, 0
  for i = 16, 1, -1 do
    local octet = block:byte(i)
    out[i] = string.char(band(octet * 2 + carry, 255))
    carry = rshift(octet, 7)
  end
  if carry == 1 then out[16] = string.char(bxor(out[16]:byte(), 0x87)) end
  return table.concat(out)
end

local function cmac(w, data)
  local key = doubled(encrypt(w, ("\0"):rep(16)))
  local last = #data > 0 and (#data - 1) % 16 + 1 or 0
  local tail = data:sub(#data - last + 1)
  if last < 16 then
    key = doubled(key)
    tail = tail .. "\128" .. ("\0"):rep(15 - last)
  end
  local mac = ("\0"):rep(16)
  for at = 1, #data - last, 16 do mac = encrypt(w, xor(mac, data:sub(at, at + 15))) end
  return encrypt(w, xor(mac, xor(tail, key)))
end

local function s2v(key, associated, plain)
  local w = schedule(key)
  local d = xor(doubled(cmac(w, ("\0"):rep(16))), cmac(w, associated))
  if #plain < 16 then return cmac(w, xor(doubled(d), plain .. "\128" .. ("\0"):rep(15 - #plain))) end
  return cmac(w, plain:sub(1, -17) .. xor(plain:sub(-16), d))
end

function crypto.aes(key, block)
  return encrypt(schedule(key), block)
end

-- The text that is sealed under a key of two AES keys; nil if it is not authentic.
function crypto.siv_open(key, associated, siv, sealed)
  local counter = siv:sub(1, 8) .. string.char(band(siv:byte(9), 127)) .. siv:sub(10, 12)
    .. string.char(band(siv:byte(13), 127)) .. siv:sub(14)
  local plain = ctr(key:sub(#key / 2 + 1), counter, sealed)
  return s2v(key:sub(1, #key / 2), associated, plain) == siv and plain or nil
end

-- The protocol --------------------------------------------------------------------------------------------------------

local function open_paper(key, round, message, mac)
  local padded = ctr(crypto.sha256(key .. "E"), mac:sub(1, 16), message)
  if crypto.hmac(crypto.sha256(key .. "H"), padded) ~= mac then return nil end
  local plain = crypto.oaep_decode(padded)
  if not plain or plain:sub(5, 12) ~= round then return nil end
  return { rand = plain:sub(15, 30), message = plain:sub(31) }
end

local function open_hardened(key, round, retran, message, siv)
  local plain = crypto.siv_open(crypto.expand(key, "btss round", 64), round .. string.char(retran), siv, message)
  return plain and { rand = plain:sub(1, 16), message = plain:sub(17) } or nil
end

-- Rand and message of a data frame under K_i of this round (8 bytes); nil if it is not authentic.
function crypto.open(version, key, round, retran, message, mac)
  if version == 1 then return open_paper(key, round, message, mac) end
  return open_hardened(key, round, retran, message, mac)
end

-- The first keys of both directions from K_0, in both profiles.
function crypto.chain_keys(k0)
  local found = {}
  for _, label in ipairs({ "initiator to responder", "responder to initiator" }) do
    found[#found + 1] = crypto.sha256(k0 .. label)
    found[#found + 1] = crypto.expand(k0, "btss chain " .. label, 32)
  end
  return found
end

-- Frame check sequence of RFCOMM: TS 07.10, 5.2.1.6.
function crypto.rfcomm_check(data)
  local register = 255
  for i = 1, #data do
    register = bxor(register, data:byte(i))
    for _ = 1, 8 do register = bxor(rshift(register, 1), band(register, 1) == 1 and 0xe0 or 0) end
  end
  return 255 - register
end

return crypto
