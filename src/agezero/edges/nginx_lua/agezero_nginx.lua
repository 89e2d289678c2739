-- What nginx asks the purge table, in each of its workers. Loaded once a worker by agezero-location.conf, which says where the files are.
--
-- epoch() gives the first part of the cache key, or "" where the cache must stay out of it ($agezero_bypass). It never raises. Where tags are recorded
-- (agezero-tagged.conf), epoch_of() does the same, and record() says before a response is stored whether it may be ($agezero_unrecorded).

local folder, path = ...
local url = dofile(folder .. "/agezero_url.lua")
local table_at = assert(loadfile(folder .. "/agezero.lua"))(url).open(path)
local byte, find, match, pcall, ngx = string.byte, string.find, string.match, pcall, ngx
local SLASH = 47
local OBJECT_BYTES_MAX = 4096
local NAMES = { "Surrogate-Key", "Cache-Tag", "xkey", "Cache-Groups" }
local STORED = { HIT = true, STALE = true, UPDATING = true, REVALIDATED = true }
local JOINS = ngx.config.nginx_version >= 1023000 -- $upstream_http_… has all lines of a header; before, only one

local function look_up(recall)
    local var = ngx.var
    local request, authority = var.request, var.http_host
    -- A request line with an authority of its own ("GET http://other/…") may mean another site than Host says.
    local space = request and find(request, " ", 1, true)
    if not authority or not space or byte(request, space + 1) ~= SLASH then
        return nil
    end
    return table_at:epoch(authority, var.request_uri, recall)
end

local told_s = 0

-- At most once a second, so that a fault doesn't fill the disk as well.
local function tell(fault)
    if ngx.time() ~= told_s then
        told_s = ngx.time()
        ngx.log(ngx.ERR, "agezero: the cache is bypassed: ", fault)
    end
    return ""
end

local function epoch()
    local ok, answer = pcall(look_up)
    if ok then
        return answer or ""
    end
    return tell(answer)
end

local tags = assert(loadfile(folder .. "/agezero_tags.lua"))(ngx.shared.agezero_tags, table_at, url.tag_hash)

-- A subrequest (SSI, auth_request, mirror) shares its variables with the request that it is for, and with others beside it: whose object
-- $agezero_object names, nobody can tell by the time it matters. (A background update and a slice don't come here again.)
local function look_up_of(object)
    if ngx.is_subrequest or not object or object == "" or #object > OBJECT_BYTES_MAX then
        return nil
    end
    local answer = look_up(function()
        return tags.recall(object)
    end)
    tags.capture()
    return answer and answer .. "t" -- what is stored without a record has another key
end

local function epoch_of(object)
    local ok, answer = pcall(look_up_of, object)
    if ok then
        return answer or ""
    end
    return tell(answer)
end

-- The values of the headers that name tags; nil where one may have lines that cannot be seen: it is hidden from the visitor, in an old nginx.
local function tag_headers()
    local values = {}
    for _, name in ipairs(NAMES) do
        local value = ngx.header[name]
        local came = ngx.var["upstream_http_" .. name:lower():gsub("-", "_")]
        if not value and came then
            if not JOINS then
                return nil
            end
            value = came
        end
        values[#values + 1] = type(value) == "table" and table.concat(value, ",") or value
    end
    return values
end

local function may_be_stored()
    local number = match(ngx.var.agezero_epoch, "^(%d+)t$")
    return number and tags.admit(ngx.var.agezero_object, tonumber(number), tag_headers())
end

local function record()
    if STORED[ngx.var.upstream_cache_status] then
        return
    end
    local ok, answer = pcall(may_be_stored)
    ngx.var.agezero_unrecorded = ok and answer and "" or "1"
    if not ok then
        tell(answer)
    end
end

-- Answers the agent. `agezero` is the version of this protocol: a 200 without it comes from somebody else and proves nothing.
local function control()
    local ok, nonce = pcall(table_at.nonce, table_at)
    pcall(tags.capture) -- the agent asks before it purges everything, so what it has stored since is known to be new
    ngx.header["Content-Type"] = "application/json"
    ngx.header["AgeZero"] = "2"
    ngx.say('{"agezero":2,"nonce":"', ok and nonce or "", '"}')
end

return { epoch = epoch, epoch_of = epoch_of, record = record, control = control }
