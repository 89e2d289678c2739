-- What nginx asks the purge table, in each of its workers. Loaded once a worker by agezero-location.conf, which says where the files are.
--
-- epoch() gives the first part of the cache key, or "" where the cache must stay out of it ($agezero_bypass). It never raises.

local folder, path = ...
local table_at = dofile(folder .. "/agezero.lua").open(path)
local byte, find, pcall, ngx = string.byte, string.find, pcall, ngx
local SLASH = 47

local function look_up()
    local var = ngx.var
    local request, authority = var.request, var.http_host
    -- A request line with an authority of its own ("GET http://other/…") may mean another site than Host says.
    local space = request and find(request, " ", 1, true)
    if not authority or not space or byte(request, space + 1) ~= SLASH then
        return nil
    end
    return table_at:epoch(authority, var.request_uri)
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

-- Answers the agent. `agezero` is the version of this protocol: a 200 without it comes from somebody else and proves nothing.
local function control()
    local ok, nonce = pcall(table_at.nonce, table_at)
    ngx.header["Content-Type"] = "application/json"
    ngx.header["AgeZero"] = "1"
    ngx.say('{"agezero":1,"nonce":"', ok and nonce or "", '"}')
end

return { epoch = epoch, control = control }
