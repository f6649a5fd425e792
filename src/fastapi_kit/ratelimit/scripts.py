"""The Lua of the counts in Redis: one script decides on all limits of a request, another gives back.

Keys and data are those of `limits` 5 (`limits/resources/redis/lua_scripts`), whose clients may share the counts. The
time is the server's, so clients whose clocks differ agree; a script that reads it may write since Redis 5, which
replicates what a script did rather than the script. Everything is looked at before anything is charged, so a script
that fails, on a key of another type for example, has charged nothing.

Each function `look` returns what is used, the seconds until some of it (or of what is charged now) comes back, the
seconds until `cost` fits, and what `charge` has to know; `charge` returns the mark.
"""

from hashlib import sha1
from typing import NamedTuple

from fastapi_kit.ratelimit.counters import Strategy

__all__ = ["GIVE_BACK", "TAKE", "Script"]


class Script(NamedTuple):
    """A script of Redis."""

    source: bytes
    sha: bytes
    """The name under which a server knows it once it has run."""


# ARGV: the cost, then the amount and the seconds of each limit. The answer is one line, as arrays cost the client more:
# "1" if charged or "0", then for each limit what is left, its reset and retry in seconds, and its mark.
_TAKE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local cost = tonumber(ARGV[1])
%s
local limits, charged = {}, 1
for i = 1, (#ARGV - 1) / 2 do
    local amount, seconds = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
    local used, reset, retry, window = look(i, amount, seconds)
    if cost == 0 or used + cost <= amount then
        retry = 0
    else
        charged = 0
        if cost > amount then retry = seconds end
    end
    limits[i] = {amount, seconds, used, reset, retry, window}
end
local answer = {charged}
for i, limit in ipairs(limits) do
    local amount, seconds, used, reset, retry, window = unpack(limit, 1, 6)
    local mark = 0
    if charged == 1 and cost > 0 then
        mark = charge(i, seconds, window)
        used = used + cost
    end
    if used == 0 then reset = 0 end
    answer[i + 1] = string.format('%%d %%.6f %%.6f %%.6f', math.max(0, amount - used), reset, retry, mark)
end
return redis.status_reply(table.concat(answer, ' '))
"""

_TAKE_FIXED = """
local function look(i, amount, seconds)
    local used = tonumber(redis.call('GET', KEYS[i])) or 0
    if used <= 0 then return 0, seconds, 0, nil end
    local left = redis.call('PTTL', KEYS[i])
    if left < 0 then -- it would never end
        redis.call('EXPIRE', KEYS[i], seconds)
        left = seconds * 1000
    end
    return used, left / 1000, (left + 1) / 1000, left -- it may end within the next millisecond
end
local function charge(i, seconds, left)
    if left then
        redis.call('INCRBY', KEYS[i], cost)
        return now + left / 1000
    end
    redis.call('SET', KEYS[i], cost, 'EX', seconds)
    return now + seconds
end
"""

# A list, the newest hit first. The hits before `used` are live; a binary search finds it if there are others.
_TAKE_MOVING = """
local function at(i, index)
    return tonumber(redis.call('LINDEX', KEYS[i], index))
end
local function look(i, amount, seconds)
    local length = redis.call('LLEN', KEYS[i])
    local used, oldest = length, length > 0 and at(i, -1)
    if oldest and oldest < now - seconds then
        local low, high = 0, length - 1
        while low < high do
            local middle = math.floor((low + high) / 2)
            if at(i, middle) < now - seconds then high = middle else low = middle + 1 end
        end
        used, oldest = low, low > 0 and at(i, low - 1)
    end
    local reset, retry = seconds, 0
    if used > 0 then reset = oldest + seconds - now end
    if cost > 0 and cost <= amount and used + cost > amount then retry = at(i, amount - cost) + seconds - now end
    return used, reset, retry, used < length and used
end
local function charge(i, seconds, live)
    local text = string.format('%d.%06d', time[1], time[2])
    local hits = {}
    for n = 1, math.min(cost, 5000) do hits[n] = text end
    for pushed = 0, cost - 1, 5000 do redis.call('LPUSH', KEYS[i], unpack(hits, 1, math.min(5000, cost - pushed))) end
    if live then redis.call('LTRIM', KEYS[i], 0, live + cost - 1) end
    redis.call('EXPIRE', KEYS[i], seconds)
    return now
end
"""

# Two keys: the current window, which expires one length after its end, and the previous one. As in `limits`, a current
# one that has ended becomes the previous one; here that is written when something is charged.
_TAKE_SLIDING = """
local function look(i, amount, seconds)
    local current, previous = KEYS[2 * i - 1], KEYS[2 * i]
    local length = seconds * 1000
    local count, left = tonumber(redis.call('GET', current)) or 0, redis.call('PTTL', current)
    if left == -1 then -- it would never end
        redis.call('PEXPIRE', current, 2 * length)
        left = 2 * length
    end
    local before, before_left, state = 0, 0, 'open'
    if left == -2 then
        left, state = 2 * length, 'new'
    elseif left < length then
        before, before_left = count, left
        count, left, state = 0, left + length, 'next'
    end
    if state ~= 'next' then
        before = tonumber(redis.call('GET', previous)) or 0
        before_left = before > 0 and math.max(0, redis.call('PTTL', previous)) or 0
    end
    local share = math.floor(before * before_left / length)
    local reset, retry = left - length, 0
    if share > 0 then reset = before_left - math.ceil(share * length / before) + 1 end
    if count + cost > amount then -- in the next window, when the share of this one is small enough
        retry = left - math.ceil((amount - cost + 1) * length / count) + 1
    elseif before > 0 then -- when the share of the previous one is
        retry = before_left - math.ceil((amount - count - cost + 1) * length / before) + 1
    end
    return share + count, reset / 1000, retry / 1000, {state, left}
end
local function charge(i, seconds, window)
    local current, previous = KEYS[2 * i - 1], KEYS[2 * i]
    local state, left = window[1], window[2]
    if state == 'open' then
        redis.call('INCRBY', current, cost)
    else
        if state == 'next' then redis.call('RENAME', current, previous) end
        redis.call('SET', current, cost, 'PX', left)
    end
    return now + left / 1000
end
"""

# ARGV: the cost, then the mark of each limit. `take_out` lowers a count that ends when the mark says, as far as the
# milliseconds of Redis can tell, and returns what is left of it.
_GIVE_BACK = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local cost = tonumber(ARGV[1])
local function take_out(key, mark)
    local count, left = tonumber(redis.call('GET', key)) or 0, redis.call('PTTL', key)
    if count > 0 and left > 0 and math.abs(now + left / 1000 - mark) < 0.01 then
        count = redis.call('DECRBY', key, math.min(cost, count))
    end
    return count
end
for i = 2, #ARGV do
    %s
end
"""

_GIVE_BACK_FIXED = """
    if take_out(KEYS[i - 1], tonumber(ARGV[i])) == 0 then redis.call('DEL', KEYS[i - 1]) end
"""
_GIVE_BACK_MOVING = """
    redis.call('LREM', KEYS[i - 1], cost, ARGV[i])
"""
_GIVE_BACK_SLIDING = """
    local current, previous = KEYS[2 * i - 3], KEYS[2 * i - 2]
    local left = take_out(current, tonumber(ARGV[i])) + take_out(previous, tonumber(ARGV[i]))
    if left == 0 then redis.call('DEL', current, previous) end
"""


def _script(frame: str, part: str) -> Script:
    source = (frame % part).encode()
    return Script(source, sha1(source, usedforsecurity=False).hexdigest().encode())


TAKE: dict[Strategy, Script] = {
    "fixed-window": _script(_TAKE, _TAKE_FIXED),
    "moving-window": _script(_TAKE, _TAKE_MOVING),
    "sliding-window-counter": _script(_TAKE, _TAKE_SLIDING),
}
"""Charge all limits, or none, and tell how they stand."""

GIVE_BACK: dict[Strategy, Script] = {
    "fixed-window": _script(_GIVE_BACK, _GIVE_BACK_FIXED),
    "moving-window": _script(_GIVE_BACK, _GIVE_BACK_MOVING),
    "sliding-window-counter": _script(_GIVE_BACK, _GIVE_BACK_SLIDING),
}
"""Take a former cost out of the windows that are marked."""
