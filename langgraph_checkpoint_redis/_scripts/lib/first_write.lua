-- Writes that change nothing, for scripts that free memory or are repeated.
--
-- Needs: keys
-- Gives: write_even_if_full, write_for_wait

-- Lets this script write although the server's memory is full. Such a server refuses a command that may
-- take memory where it is the first write of a script, but not after another: a script is done completely
-- or not at all. This one takes none, and changes nothing. It is for what frees memory.
local function write_even_if_full()
  redis.call('HDEL', CONTROL, '')
end

-- Changes nothing, but is a write, which replicas are told of and `WAIT` waits for: so a repeated call that
-- finds all done is not confirmed before what it finds. Follows a write, as it seems to take memory.
local function write_for_wait()
  redis.call('HSET', CONTROL, '', '')
  redis.call('HDEL', CONTROL, '')
end
