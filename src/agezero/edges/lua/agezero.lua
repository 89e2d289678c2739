-- Reads the purge table that the agent writes (a mapped file, see agezero/edges/readers.py) from LuaJIT: in nginx, OpenResty, Traffic Server.
--
--   local agezero = assert(loadfile("agezero.lua"))(dofile("agezero_url.lua"))
--   local t = agezero.open("/var/lib/agezero/slots")
--   t:epoch(authority, target)            the newest purge that matches, as text for the cache key; nil: bypass the cache. Of tags the newest of all counts
--   t:epoch(authority, target, recall)    the same where recall() knows the tags of what is stored: see agezero_tags.lua
--   t:nonce()                             what the agent wrote last, as text, so that it sees that this very file is read here; nil: no table of this kernel
--
-- `authority` is the Host that the client asked for, `target` path and query as they came, raw bytes. Nothing here depends on a server.
--
-- nil has one meaning: the cache must stay out of it. There is no table yet, its lease is over, another kernel wrote it, it is being written, or the URL
-- has no canonical form. An error means the same, so a caller wraps each call in pcall. A missing file is not an error: it may come yet.
--
-- What the slots of a URL are is said in agezero_url.lua. The look-up stands in core/epochs.py too; tests/contract/test_lua.py holds them together. The
-- lease is read before the table, the gates before `everything`, as the agent writes them the other way round. Numbers below 2^53 are exact in a double.
-- What has to be atomic is read as 8 aligned bytes; a half (4 bytes, no garbage) is read only where the other half does not matter.

local url = ...
local ffi = require "ffi"

local canonical, slots_of = url.canonical, url.slots_of
local band = require("bit").band
local format, gmatch, match = string.format, string.gmatch, string.match
local tonumber = tonumber

-- Names of our own: every script of a server may share one namespace, and what is declared twice is an error.
if not pcall(ffi.typeof, "agezero_timespec") then
    ffi.cdef [[
        typedef struct { long s; long ns; } agezero_timespec;
        int agezero_clock_gettime(int, agezero_timespec *) __asm__("clock_gettime");
        int agezero_open(const char *, int, ...) __asm__("open");
        int agezero_close(int) __asm__("close");
        long agezero_lseek(int, long, int) __asm__("lseek");
        void *agezero_mmap(void *, size_t, int, int, int, long) __asm__("mmap");
        int agezero_munmap(void *, size_t) __asm__("munmap");
    ]]
end
local C = ffi.C

local CLOCK_MONOTONIC, PROT_READ, MAP_SHARED, SEEK_END = 1, 1, 1, 2
local O_CLOEXEC = 0x80000 -- and O_RDONLY, which is 0
local FAILED = ffi.cast("void *", -1)

local SLOTS_AT = 8192
local SLOTS_MAX = 2 ^ 30
-- In units of 8 bytes from the start of the file; the readers' page is its second.
local MAGIC, SIZE, EVERYTHING, UNTIL, NONCE, VERSION, GATES, COUNT, KERNEL, LENGTHS = 512, 513, 514, 515, 516, 517, 518, 519, 520, 528
local TAGS, TOP, ORIGIN = 525, 526, 527
local LENGTHS_MAX = 24
local KERNEL_BYTES = 36
local TRIES = 100
local LOOK_AGAIN_NS = 1e9

-- The memo of a table: how much its younger half may hold before it becomes the older one, and that is dropped.
local MEMO_ENTRIES_MAX, MEMO_BYTES_MAX, MEMO_URL_BYTES_MAX = 4096, 512 * 1024, 2048

-- The table

local now = ffi.new("agezero_timespec")

local function now_ns()
    if C.agezero_clock_gettime(CLOCK_MONOTONIC, now) ~= 0 then
        error("no monotonic clock")
    end
    return tonumber(now.s) * 1e9 + tonumber(now.ns)
end

local kernel -- the boot id as 4-byte numbers; false: unknown, so every table is another kernel's

local function read_kernel()
    local file = io.open("/proc/sys/kernel/random/boot_id")
    local text = file and file:read(KERNEL_BYTES)
    if file then
        file:close()
    end
    if not text or #text ~= KERNEL_BYTES then
        return false
    end
    local words = ffi.new("uint32_t[?]", KERNEL_BYTES / 4)
    ffi.copy(words, text, KERNEL_BYTES)
    return words
end

local magic = ffi.new("uint32_t[2]")
ffi.copy(magic, "AGEZERO2", 8)
local MAGIC_LOW, MAGIC_HIGH = magic[0], magic[1]

local Table = {}
Table.__index = Table

-- Without an error where the file is not there, not ours to read, or no table: then this table is fenced, and looks again.
local function open(path)
    kernel = kernel or read_kernel()
    local t = setmetatable({ path = path, looked_ns = -LOOK_AGAIN_NS, young = {}, old = {}, entries = 0, bytes = 0 }, Table)
    t:look(now_ns())
    return t
end

function Table:drop()
    self.words, self.halves, self.gates = nil, nil, nil
    self.young, self.old, self.entries, self.bytes = {}, {}, 0, 0
    local pages = self.pages
    if pages then
        self.pages = nil
        ffi.gc(pages, nil)
        C.agezero_munmap(pages, self.size)
    end
end

local function map(path)
    local file = C.agezero_open(path, O_CLOEXEC)
    if file < 0 then
        return nil
    end
    local size = tonumber(C.agezero_lseek(file, 0, SEEK_END))
    local pages = size > SLOTS_AT and C.agezero_mmap(nil, size, PROT_READ, MAP_SHARED, file, 0) or FAILED
    C.agezero_close(file)
    if pages == FAILED then
        return nil
    end
    return ffi.gc(pages, function(address)
        C.agezero_munmap(address, size)
    end), size
end

-- Map what is at the path now: a table that had to begin anew is another file.
function Table:look(now)
    self.looked_ns = now
    self:drop()
    local pages, size = map(self.path)
    if not pages then
        return
    end
    self.pages, self.size = pages, size
    local words = ffi.cast("const uint64_t *", pages)
    local slots = tonumber(words[SIZE])
    if size ~= SLOTS_AT + 8 * slots or slots > SLOTS_MAX or slots < 1 or band(slots, slots - 1) ~= 0 then
        self:drop()
        return
    end
    self.mask = slots - 1
    self.words, self.halves = words, ffi.cast("const uint32_t *", pages)
end

local function of_this_kernel(halves)
    if not kernel then
        return false
    end
    for i = 0, KERNEL_BYTES / 4 - 1 do
        if halves[2 * KERNEL + i] ~= kernel[i] then
            return false
        end
    end
    return true
end

function Table:live(now)
    local words, halves = self.words, self.halves
    return words and now < tonumber(words[UNTIL]) and halves[2 * MAGIC] == MAGIC_LOW and halves[2 * MAGIC + 1] == MAGIC_HIGH and of_this_kernel(halves)
end

-- A consistent copy: the version is even, and the same before and after. nil where there is none: the writer may have died.
function Table:read_gates()
    local words, halves = self.words, self.halves
    for _ = 1, TRIES do
        local version = tonumber(words[VERSION])
        local gates = self.gates
        if gates and gates.version == version then
            return gates
        end
        local bits, count = halves[2 * GATES], math.min(halves[2 * COUNT], LENGTHS_MAX)
        local lengths = {}
        for i = 1, count do
            lengths[i] = halves[2 * (LENGTHS + i - 1)]
        end
        lengths[count + 1] = math.huge
        if version % 2 == 0 and version == tonumber(words[VERSION]) then
            self.gates = { version = version, host = band(bits, 1) ~= 0, slash = band(bits, 2) ~= 0, lengths = lengths }
            return self.gates
        end
    end
    return nil
end

-- What to look up for a URL, remembered under its spelling. It follows from URL and gates alone, so to forget it changes nothing.
function Table:place(authority, target, gates)
    local urls = self.young[authority]
    local place = urls and urls[target]
    if place and place.gates == gates then
        return place
    end
    urls = self.old[authority]
    place = urls and urls[target]
    if not place or place.gates ~= gates then
        local plain = canonical(authority, target)
        if not plain then
            return nil
        end
        place = { gates = gates, slots = slots_of(plain, gates, self.mask), number = -1, text = "" }
    end
    if #authority + #target <= MEMO_URL_BYTES_MAX then
        self:remember(authority, target, place)
    end
    return place
end

function Table:remember(authority, target, place)
    self.entries, self.bytes = self.entries + 1, self.bytes + #authority + #target
    if self.entries > MEMO_ENTRIES_MAX or self.bytes > MEMO_BYTES_MAX then
        self.old, self.young, self.entries, self.bytes = self.young, {}, 0, 0
    end
    local urls = self.young[authority]
    if not urls then
        urls = {}
        self.young[authority] = urls
    end
    urls[target] = place
end

-- Is there a table with a lease? One that was replaced is looked for once a second.
function Table:usable()
    local now = now_ns()
    if self:live(now) then
        return true
    end
    if now - self.looked_ns < LOOK_AGAIN_NS then
        return false
    end
    self:look(now)
    return self:live(now)
end

function Table:epoch(authority, target, recall)
    local gates = self:usable() and self:read_gates()
    local place = gates and self:place(authority, target, gates)
    if not place then
        return nil
    end
    local words, slots = self.words, place.slots
    local newest, tags = tonumber(words[EVERYTHING]), tonumber(words[TAGS])
    for i = 1, #slots do
        local number = tonumber(words[SLOTS_AT / 8 + slots[i]])
        if number > newest then
            newest = number
        end
    end
    if tags > newest then
        newest = recall and self:recalled(recall(), newest, tags) or tags
    end
    if newest ~= place.number then
        place.number, place.text = newest, format("%.0f", newest)
    end
    return place.text
end

-- A record is "<epoch of all that is stored>|<hashes of its tags>", or "*" in their place; nil: nothing is known.
function Table:recalled(record, newest, tags)
    if not record then
        return tags
    end
    local floor, list = match(record, "^(%d+)|(.*)$")
    newest = math.max(newest, tonumber(floor))
    if list == "*" then
        return math.max(newest, tags)
    end
    for hash in gmatch(list, "[^,]+") do
        newest = math.max(newest, self:purged(tonumber(hash)))
    end
    return newest
end

-- The newest purge of the tag with this hash. A number above that of all tags is of something else in its slot.
function Table:purged(hash)
    local words = self.words
    return math.min(tonumber(words[SLOTS_AT / 8 + band(hash, self.mask)]), tonumber(words[TAGS]))
end

-- Which table this is, and a number that none in it exceeds; 0: an agent of an older version wrote it, or there is no table.
function Table:state()
    local words = self.words
    if not words then
        return 0, 0
    end
    return tonumber(words[ORIGIN]), tonumber(words[TOP])
end

function Table:nonce()
    local now = now_ns()
    if not self:live(now) then -- or it would answer for a table that has been replaced
        self:look(now)
    end
    return self.words and of_this_kernel(self.halves) and format("%.0f", tonumber(self.words[NONCE])) or nil
end

return { open = open }
