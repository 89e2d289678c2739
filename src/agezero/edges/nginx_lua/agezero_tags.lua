-- Which tags the stored responses of an object have, in a dictionary that nginx's workers share. An object is what one cache key names, in all variants.
--
-- A request doesn't tell its object's tags, so they are recorded before a response is stored, and looked up with the next request. A record is
-- "<floor>|<hashes>": all that can be met is stored under an epoch of at least `floor`, and has tags among these. "*" stands for any tag. Without a
-- record any tag is possible too: then a purge of whatever tag purges the object. So to lose a record is harmless; to begin one anew, while
-- something that it spoke of can still be met, is not:
--
-- * A record begins only under an epoch that nothing stored before can have: above `born`, the highest number when this dictionary was new.
-- * Nothing is evicted. Where there is no room `full` is set, for ever; from then on no record begins, and one that changes stands for any tag.
-- * One worker at a time changes a record. The other one's response is not stored. (A worker that is killed in between keeps its object out of the cache.)
--   Without room for that lock the record goes, after `full` was set; whoever writes it meanwhile sees that, before or after, and makes it any tag.
-- * A fetch may have begun before a purge of a tag that nobody knew it had. So the tags are recorded first, then their purges are looked at: one that
--   came after the fetch's epoch keeps the response out. If it comes later still, it finds the record.

local dict, t, tag_hash = ...
local ipairs, match, gmatch, format, tonumber = ipairs, string.match, string.gmatch, string.format, tonumber

local HASHES_MAX = 64
local NO_MEMORY = "no memory"

dict:safe_add("full", 0)

local function is_full()
    return dict:get("full") ~= 0
end

local function fill_up()
    dict:replace("full", 1) -- of the same size, so it takes no room
end

-- There is no room: nothing is known of it any more, and no record of it begins anew.
local function forget(name)
    fill_up()
    dict:delete(name)
end

local function put(name, record)
    if not dict:safe_set(name, record) then
        forget(name)
    end
end

-- Sets `born`, once for each table: whatever was stored until now has a key that is no higher.
local captured
local function capture()
    local origin, top = t:state()
    if origin ~= captured and top > 0 then
        if not dict:safe_add("born " .. origin, top) and not dict:get("born " .. origin) then
            fill_up()
        end
        captured = origin
    end
    return origin
end

local function name_of(object)
    return format("%.0f %s", capture(), object)
end

local function recall(object)
    return dict:get(name_of(object))
end

local function union(list, hashes)
    if list == "*" or not hashes then
        return "*"
    end
    local known, count = {}, 0
    for hash in gmatch(list, "[^,]+") do
        known[hash], count = true, count + 1
    end
    for _, hash in ipairs(hashes) do
        local text = format("%d", hash)
        if not known[text] then
            known[text], count = true, count + 1
            list = list == "" and text or list .. "," .. text
        end
    end
    return count <= HASHES_MAX and list or "*"
end

local function change(name, number, hashes)
    local record, full = dict:get(name), is_full()
    local floor, list = 0, ""
    if record then
        floor, list = match(record, "^(%d+)|(.*)$")
        floor = tonumber(floor)
    else
        local born = dict:get("born " .. match(name, "^%d+"))
        if full or not born or number <= born then
            return -- nothing is known of it, as before
        end
    end
    if number < floor then
        return -- it is stored where nobody looks any more
    end
    local changed = format("%.0f|%s", number, union(number > floor and "" or list, hashes))
    if changed ~= record then
        put(name, full and format("%.0f|*", number) or changed)
    end
    if not full and is_full() then
        put(name, format("%.0f|*", number))
    end
end

-- False where another worker is at it.
local function record(name, number, hashes)
    local lock = "!" .. name
    local locked, fault = dict:safe_add(lock, 1)
    if not locked and fault == NO_MEMORY then
        forget(name)
        return true
    end
    if locked then
        change(name, number, hashes)
        dict:delete(lock)
    end
    return locked
end

-- The hashes of the tags in these values of headers; nil: too many.
local function hashes_of(values)
    local hashes, seen = {}, {}
    for _, value in ipairs(values) do
        for tag in gmatch(value, '[^%s,"]+') do
            if not seen[tag] then
                if #hashes == HASHES_MAX then
                    return nil
                end
                seen[tag], hashes[#hashes + 1] = true, tag_hash(tag)
            end
        end
    end
    return hashes
end

-- May a response of `object`, which was asked for under the epoch `number`, be stored? `values`: of the headers that name its tags; nil: unknown.
local function admit(object, number, values)
    local hashes = values and hashes_of(values)
    if not record(name_of(object), number, hashes) then
        return false
    end
    for _, hash in ipairs(hashes or {}) do
        if t:purged(hash) > number then
            return false
        end
    end
    return true
end

return { capture = capture, recall = recall, admit = admit }
