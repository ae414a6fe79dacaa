-- The namespaces of a thread.
--
-- Needs: keys, rows
-- Gives: each_namespace

-- Calls visit(ns, first_row) for every namespace, in order.
local function each_namespace(visit)
  local row = redis.call('ZRANGEBYLEX', TIMELINE, '-', '+', 'LIMIT', 0, 1)[1]
  while row do
    local ns = split_row(row)
    visit(ns, row)
    row = redis.call('ZRANGEBYLEX', TIMELINE, '[' .. ns .. '\1', '+', 'LIMIT', 0, 1)[1]
  end
end
