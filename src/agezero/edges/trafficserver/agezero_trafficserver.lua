-- What Traffic Server asks the purge table, for each request of a rule in remap.config. The rule's plugins stand in this order:
--
--   @plugin=conf_remap.so @pparam=proxy.config.http.cache.http=0      the cache is off,
--   … plugins of yours …
--   @plugin=tslua.so @pparam=… this file, the table, the canary       and only this script turns it on, as the last thing it does.
--
-- So whatever goes wrong before (no table, no lease, an error here, a script that was never loaded), nothing is read from the cache and nothing is stored.
--
-- The epoch goes into the cache key as a host of its own before the URL. Not by TS_LUA_CONFIG_HTTP_CACHE_GENERATION, though it is made for that:
-- ts_lua cuts the number to 32 bits, so two epochs could be one, and -1 is the key without any.

local byte, find, format, gsub, match, sub, pcall = string.byte, string.find, string.format, string.gsub, string.match, string.sub, pcall
local ts = ts

local LOOK = "/.well-known/agezero-look/"
local CANARY = "/.well-known/agezero/"
local SLASH, DOT, UPPER_E, LOWER_E = 47, 46, 69, 101
local ON, OFF = 1, 0

local table_at, canary_host, canary_port

local function read(path)
    local file = assert(io.open(path))
    local code = file:read("*a")
    file:close()
    return code
end

-- The rules of a Lua state share one mapping of a table, and a reload of remap.config that brings new code gets a new one.
local function open(folder, path)
    local url, library = read(folder .. "agezero_url.lua"), read(folder .. "agezero.lua")
    local name = "agezero " .. path .. url .. library
    if not package.loaded[name] then
        package.loaded[name] = assert(loadstring(library, "=agezero.lua"))(assert(loadstring(url, "=agezero_url.lua"))()).open(path)
    end
    return package.loaded[name]
end

-- arguments: this file, the table, the canary as HOST:PORT (it may be missing). A fault here bypasses; it does not keep Traffic Server from starting.
function __init__(arguments)
    local ok, opened = pcall(open, match(arguments[0], "^(.*/)") or "", arguments[1])
    if ok then
        table_at = opened
    else
        ts.error("agezero: the cache is bypassed: " .. tostring(opened))
    end
    canary_host, canary_port = match(arguments[2] or "", "^%[?(.-)%]?:(%d+)$")
    return 0
end

-- "/." and "/.." at the end of a path may be what Traffic Server left of "/.;": it drops an empty parameter, and then this is another URL.
local function ends_in_dots(target)
    local mark = find(target, "?", 1, true)
    local last = byte(target, mark and mark - 1 or -1)
    if last ~= DOT and last ~= UPPER_E and last ~= LOWER_E then
        return false
    end
    return find(gsub(match(target, "^[^?]*"), "%%2[eE]", "."), "/%.%.?$") ~= nil
end

-- The URL as the rule was chosen for it, before it was mapped: authority and target.
local function asked()
    local authority, target = match(ts.client_request.get_pristine_url(), "^%a+://([^/?#]*)(.*)$")
    if not authority or byte(target) ~= SLASH or ends_in_dots(target) then
        return nil
    end
    return authority, target
end

local function set_key(epoch)
    local http = ts.http
    local before = http.get_cache_lookup_url() -- of a plugin that stands before us, such as cachekey
    -- As a query, for of that Traffic Server drops nothing, as it does of a path.
    local key = "http://" .. epoch .. ".agezero.invalid/?" .. (before or ts.client_request.get_url())
    if before then
        http.set_cache_lookup_url(key)
    else
        http.set_cache_url(key)
    end
    if http.get_cache_lookup_url() ~= key then -- it only logs what it refuses
        error("this cache key was refused: " .. key)
    end
end

local function to_canary(target)
    local request = ts.client_request
    request.set_url_scheme("http")
    request.set_url_host(canary_host)
    request.set_url_port(tonumber(canary_port))
    request.set_uri(match(target, "^[^?]*"))
end

local function from_here()
    local address = ts.client_request.client_addr.get_addr()
    return address == "::1" or find(address, "^127%.") ~= nil or find(address, "^::ffff:127%.") ~= nil
end

-- Tells the agent what is read here. Only who can read the table himself can make the proof, and it's good for one look.
local function look(proof)
    local ok, nonce = pcall(table_at.nonce, table_at)
    nonce = ok and nonce or ""
    local told = proof == ts.sha256("agezero look " .. nonce)
    local fault = nonce == "" and "no-table" or not told and "other-table" or ""
    ts.http.set_resp(200, format('{"agezero":1,"nonce":"%s","fault":"%s"}', told and nonce or "", fault))
    return TS_LUA_REMAP_NO_REMAP_STOP
end

local function serve()
    local authority, target = asked()
    if not authority or not table_at then
        ts.http.config_int_set(TS_LUA_CONFIG_HTTP_CACHE_HTTP, OFF)
        return TS_LUA_REMAP_NO_REMAP
    end
    if sub(target, 1, #LOOK) == LOOK and from_here() then
        return look(sub(target, #LOOK + 1))
    end
    local mapped = TS_LUA_REMAP_NO_REMAP
    if canary_host and sub(target, 1, #CANARY) == CANARY then
        to_canary(target)
        mapped = TS_LUA_REMAP_DID_REMAP
    end
    local epoch = table_at:epoch(authority, target)
    if epoch then
        set_key(epoch)
    end
    ts.http.config_int_set(TS_LUA_CONFIG_HTTP_CACHE_HTTP, epoch and ON or OFF)
    return mapped
end

local told_s = 0

-- At most once a second, so that a fault doesn't fill the disk as well.
local function bypass(fault)
    ts.http.config_int_set(TS_LUA_CONFIG_HTTP_CACHE_HTTP, OFF)
    local now_s = os.time()
    if now_s ~= told_s then
        told_s = now_s
        ts.error("agezero: the cache is bypassed: " .. tostring(fault))
    end
    return TS_LUA_REMAP_NO_REMAP
end

function do_remap()
    local ok, answer = pcall(serve)
    return ok and answer or bypass(answer)
end
