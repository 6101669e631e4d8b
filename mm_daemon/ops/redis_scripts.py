"""The scripts that run inside Redis: each is one step that nothing can come between.

A lease is a string `token:tenure` with a life of its own (PX). Beside it stands a fence, a hash
that never expires: the highest tenure, until when the last renewal lasts, and which life of the
server wrote it. Tenures follow the server's clock in milliseconds, never fall below what fence,
instance or the server's former life remember, and rise with each grant: a store that was flushed or
restored from an old copy hands out no number twice, unless that took less than a millisecond.

All leases of a daemon are taken, renewed and let go together, in the order of their names.

Keys of every lease script: the firm's kill, then leases, then fences of the same names. Every reply
ends with the firm's kill, so that one round trip tells an instance all it must know.

They need Redis 6.2 and nothing beyond it: no modules, no functions.
"""

from __future__ import annotations

from typing import Final

VERSION_MIN: Final = (6, 2)

_COMMON: Final = """
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function text(number) return string.format('%.0f', number) end
local function with_firm(reply)
  local kill = redis.call('HMGET', KEYS[1], 'generation', 'active', 'permission', 'tasks', 'level',
    'reason', 'by')
  for i = 1, 7 do reply[#reply + 1] = kill[i] or '' end
  return reply
end
"""

ACQUIRE: Final = (
    _COMMON
    + """
-- ARGV: token, ttl ms, rest ms (what of the ttl a holder leaves unused), floor
local token, ttl, rest = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local server = redis.call('INFO', 'server')
local major, minor = string.match(server, 'redis_version:(%d+)%.(%d+)')
if tonumber(major) * 100 + tonumber(minor) < 602 then
  return with_firm({'old', string.match(server, 'redis_version:(%S+)'), '', ''})
end
local life = string.match(server, 'run_id:(%x+)')
local n = (#KEYS - 1) / 2
local now, highest, left = now_ms(), tonumber(ARGV[4]), 0
local holder, lapses = nil, 0
for i = 2, n + 1 do
  local owner = redis.call('GET', KEYS[i])
  if owner and string.sub(owner, 1, #token + 1) ~= token .. ':' then
    local pttl = redis.call('PTTL', KEYS[i])
    if pttl < 0 then pttl = ttl end
    if pttl >= lapses then holder, lapses = owner, pttl end
  end
  local fence = redis.call('HMGET', KEYS[n + i], 'tenure', 'life', 'until', 'ttl', 'rest',
    'released')
  highest = math.max(highest, tonumber(fence[1] or 0))
  local ttl_then, rest_then = tonumber(fence[4] or ttl), tonumber(fence[5] or rest)
  local left_here
  if not fence[1] or fence[2] ~= life then
    left_here = math.max(ttl, ttl_then)
  elseif fence[6] == '1' then
    left_here = rest_then
  else
    left_here = math.max(0, tonumber(fence[3]) - now)
  end
  left = math.max(left, left_here + math.max(0, rest - rest_then))
end
if holder then return with_firm({'held', holder, text(lapses), text(highest)}) end
local tenure = math.max(highest + 1, now)
for i = 2, n + 1 do
  redis.call('HSET', KEYS[n + i], 'tenure', text(tenure), 'life', life, 'until', text(now + ttl),
    'ttl', text(ttl), 'rest', text(rest), 'released', '0')
  redis.call('SET', KEYS[i], token .. ':' .. text(tenure), 'PX', ttl)
end
return with_firm({'granted', text(tenure), text(left), ''})
"""
)

RENEW: Final = (
    _COMMON
    + """
-- ARGV: token, tenure, ttl ms
local mine, tenure, ttl = ARGV[1] .. ':' .. ARGV[2], ARGV[2], tonumber(ARGV[3])
local n = (#KEYS - 1) / 2
for i = 2, n + 1 do
  local owner = redis.call('GET', KEYS[i])
  if owner ~= mine then return with_firm({'refused', owner or '', '', ''}) end
  if redis.call('HGET', KEYS[n + i], 'tenure') ~= tenure then
    return with_firm({'refused', '', '', ''})
  end
end
local until_ms = text(now_ms() + ttl)
for i = 2, n + 1 do
  redis.call('PEXPIRE', KEYS[i], ttl)
  redis.call('HSET', KEYS[n + i], 'until', until_ms)
end
return with_firm({'renewed', '', '', ''})
"""
)

RELEASE: Final = """
-- ARGV: token, tenure, channel, 1 where the holder has stopped and the venue was swept
local mine, freed = ARGV[1] .. ':' .. ARGV[2], 0
local n = (#KEYS - 1) / 2
for i = 2, n + 1 do
  if redis.call('GET', KEYS[i]) == mine then
    redis.call('DEL', KEYS[i])
    if ARGV[4] == '1' then redis.call('HSET', KEYS[n + i], 'released', '1') end
    freed = freed + 1
  end
end
if freed > 0 then redis.call('PUBLISH', ARGV[3], 'released') end
return freed
"""

RAISE_FIRM: Final = (
    _COMMON
    + """
-- ARGV: permission, tasks, level, reason, by, channel, 1 where only a lost kill is put back, floor
local found = redis.call('HMGET', KEYS[1], 'generation', 'active', 'permission', 'tasks')
if ARGV[7] == '1' and found[1] then return with_firm({'kept'}) end
local permission, tasks = tonumber(ARGV[1]), tonumber(ARGV[2])
if found[2] == '1' then
  permission = bit.band(permission, tonumber(found[3]))
  tasks = bit.bor(tasks, tonumber(found[4]))
end
local highest = math.max(tonumber(found[1] or 0), tonumber(ARGV[8]))
local generation = text(math.max(highest + 1, now_ms()))
redis.call('HSET', KEYS[1], 'generation', generation, 'active', '1', 'permission', permission,
  'tasks', tasks, 'level', ARGV[3], 'reason', ARGV[4], 'by', ARGV[5])
redis.call('PUBLISH', ARGV[6], generation)
return with_firm({'raised'})
"""
)

RESET_FIRM: Final = (
    _COMMON
    + """
-- ARGV: expected generation, reason, by, channel
local found = redis.call('HMGET', KEYS[1], 'generation', 'active')
if found[1] ~= ARGV[1] then return with_firm({'stale'}) end
if found[2] ~= '1' then return with_firm({'not latched'}) end
local generation = text(math.max(tonumber(found[1]) + 1, now_ms()))
redis.call('HSET', KEYS[1], 'generation', generation, 'active', '0', 'reason', ARGV[2],
  'by', ARGV[3])
redis.call('PUBLISH', ARGV[4], generation)
return with_firm({'reset'})
"""
)
