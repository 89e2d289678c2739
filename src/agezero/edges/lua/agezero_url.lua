-- What a URL is to the purge table: its canonical form, and the slots in which purges of it may stand. Pure, and the same in every LuaJIT.
--
--   local url = dofile("agezero_url.lua")
--   url.canonical(authority, target)    the URL's canonical form; nil: it has none
--   url.slots_of(url, gates, mask)      the slots of a canonical URL in a table of mask + 1 slots
--   url.tag_hash(tag)                   what is kept of a tag: 32 bits, with a sign
--
-- `authority` is the Host that the client asked for, `target` path and query as they came, raw bytes.
-- All of it stands in core/canonical.py and core/epochs.py too; tests/contract/test_lua.py holds them together.

local bit = require "bit"

local bxor, rshift, band = bit.bxor, bit.rshift, bit.band
local byte, char, find, format, gmatch, gsub, lower, match, sub, upper =
    string.byte, string.char, string.find, string.format, string.gmatch, string.gsub, string.lower, string.match, string.sub, string.upper
local tonumber = tonumber

local URL_BYTES_MAX = 8192
local SEED, FACTOR = 0x2545F491, 1000003
local URL, PREFIX, HOST, TAG = 0x1B873593, 0x4CF5AD43, 0x38495AB5, 0x2C1B3C6D
local SLASH, QUESTION = 47, 63

-- Canonical form

local NOT_PLAIN = "[^A-Za-z0-9%-._~!$&'()*+,;=:@/?%%]"
local UNRESERVED = "^[A-Za-z0-9%-._~]$"

local function percent(text)
    return format("%%%02X", byte(text))
end

-- What followed a "%": two hexadecimal digits, or something else, and then the "%" stands for itself.
local function decoded(digits)
    if #digits < 2 then
        return "%25" .. digits
    end
    local plain = char(tonumber(digits, 16))
    return find(plain, UNRESERVED) and plain or "%" .. upper(digits)
end

local function without_dot_segments(path)
    if not find(path, "/.", 1, true) then
        return path
    end
    local kept, last = {}, nil
    for segment in gmatch(path, "/([^/]*)") do
        last = segment
        if segment == ".." then
            kept[#kept] = nil
        elseif segment ~= "." then
            kept[#kept + 1] = segment
        end
    end
    if last == "." or last == ".." then
        kept[#kept + 1] = ""
    end
    return "/" .. table.concat(kept, "/")
end

-- nil where an origin may read another URL out of it than we do (a fragment, no absolute path) or where it is too long.
local function canonical_target(target)
    if byte(target) ~= SLASH or #target > URL_BYTES_MAX or find(target, "#", 1, true) then
        return nil
    end
    local text = gsub(gsub(target, "%%(%x?%x?)", decoded), NOT_PLAIN, percent)
    local mark = find(text, "?", 1, true)
    text = mark and without_dot_segments(sub(text, 1, mark - 1)) .. sub(text, mark) or without_dot_segments(text)
    return #text <= URL_BYTES_MAX and text or nil
end

local function is_name(host)
    return #host <= 255 and find(host, "^[a-z0-9_.-]+$") and not find("." .. host .. ".", "%.[-.]") and not find(host .. ".", "-.", 1, true)
end

-- nil for what no URL can name. International names arrive here in ASCII, or are refused.
local function canonical_authority(authority)
    local host, port = match(authority, "^(%[[0-9A-Fa-f:.]+%]):?([0-9]*)$")
    local bracketed = host ~= nil
    if not bracketed then
        host, port = match(authority, "^([^%[%]:@]+):?([0-9]*)$")
    end
    if not host or #port > 5 or (#port > 0 and byte(authority, #authority - #port) ~= 58) then
        return nil
    end
    host = lower(host)
    if not bracketed then
        host = gsub(host, "%.$", "")
        if not is_name(host) then
            return nil
        end
    elseif #host > 255 then
        return nil
    end
    port = match(port, "^0*(.*)$")
    if port == "" or port == "80" or port == "443" then
        return host
    end
    return tonumber(port) <= 65535 and host .. ":" .. port or nil
end

local function canonical(authority, target)
    local name = canonical_authority(authority)
    local rest = name and canonical_target(target)
    return rest and name .. rest
end

-- Hash. All numbers are 32 bits with a sign: their product with FACTOR stays below 2^51, up to where bit operations are exact.

local function slot_of(state, kind, mask)
    local mixed = bxor(state, kind)
    mixed = bxor(bxor(mixed, rshift(mixed, 15)) * FACTOR, 0)
    return band(bxor(mixed, rshift(mixed, 13)), mask)
end

-- What is kept of a tag: all 32 bits, of which a table takes as many as it has slots.
local function tag_hash(tag)
    local state = SEED
    for i = 1, #tag do
        state = bxor(state * FACTOR, byte(tag, i))
    end
    return slot_of(state, TAG, -1)
end

-- The slots in which purges of `url` may stand, found in one pass over it. gates: {host, slash, count, lengths}.
local function slots_of(url, gates, mask)
    local slots, n = {}, 0
    local lengths, next_length = gates.lengths, 1
    local authority, state = find(url, "/", 1, true) - 1, SEED
    for i = 1, authority do
        state = bxor(state * FACTOR, byte(url, i))
    end
    if gates.host then
        n = n + 1
        slots[n] = slot_of(state, HOST, mask)
    end
    while lengths[next_length] <= authority do -- the last one is infinite
        n, next_length = n + 1, next_length + 1
        slots[n] = slot_of(state, PREFIX, mask)
    end
    local slash, listed = gates.slash, lengths[next_length]
    for i = authority + 1, #url do
        local code = byte(url, i)
        state = bxor(state * FACTOR, code)
        if code == QUESTION then
            slash = false
        end
        if i == listed then
            next_length = next_length + 1
            listed = lengths[next_length]
            n = n + 1
            slots[n] = slot_of(state, PREFIX, mask)
        elseif code == SLASH and slash then
            n = n + 1
            slots[n] = slot_of(state, PREFIX, mask)
        end
    end
    slots[n + 1] = slot_of(state, URL, mask)
    return slots
end

return { canonical = canonical, slots_of = slots_of, tag_hash = tag_hash }
