-- Takes a lease of a thread, renews it, or gives it back.
--
-- KEYS     timeline, writes, chunks, runs, live, control of the thread
-- ARGV[1]  the token of the lease
-- ARGV[2]  for how many milliseconds; 0 gives it back
-- ARGV[3]  1 to take it, 0 to renew only what is held
-- Returns  1, or 0 when another has the lease, or when there is none to renew

-- Needs: keys, first_write, control, clock, lease

read_control()
local is_mine = has_lease() and control.lease == ARGV[1]
if ARGV[2] == '0' then
  if is_mine then
    redis.call('HDEL', CONTROL, 'lease', 'until', 'span')
    control['until'] = nil
    keep_control()
  end
  return 1
end
if not is_mine and (has_lease() or ARGV[3] == '0') then
  return 0
end
if is_mine then -- its holder may want to make room
  write_even_if_full()
end
set_control('lease', ARGV[1])
set_control('span', ARGV[2])
set_control('until', integer(now() + ARGV[2]))
keep_control()
return 1
