// Every request of the suite, which knows no tokens, carries ours.
import { Agent, setGlobalDispatcher } from "undici";

const added = ["authorization", `Bearer ${process.env.MCP_TOKEN}`];

function withToken(headers) {
  if (Array.isArray(headers)) return [...headers, ...added];
  return { ...(headers ?? {}), [added[0]]: added[1] };
}

setGlobalDispatcher(
  new Agent().compose(
    (dispatch) => (options, handler) =>
      dispatch({ ...options, headers: withToken(options.headers) }, handler),
  ),
);
