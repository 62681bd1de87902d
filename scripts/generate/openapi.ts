import { createServer } from 'node:http';
import { CONTROL_PLANE_ROUTES } from '../../src/format/control-plane.ts';
import { createApp } from '../../src/system/listener/app.ts';

/** Path from the top of the repository -> text: what others implement for us. */
export async function openApiFiles(): Promise<Map<string, string>> {
  const handler = async () => ({ json: {} });
  const app = createApp(
    {
      title: 'Control plane, as the Quantix update server calls it',
      version: '1',
      routes: CONTROL_PLANE_ROUTES,
      handlers: { drain: handler, uncordon: handler, drainPlan: async () => ({ json: { vms: [], blocks: [] } }) },
      admit: () => null,
      documentFor: 'open',
      log: { info: () => undefined, warn: () => undefined },
    },
    'tcp',
    (listener) => createServer(listener),
  );
  await app.ready();
  const { paths, info, ...document }: Document = JSON.parse(JSON.stringify(app.swagger()));
  await app.close();
  const signed = Object.entries(paths).map(([path, { post }]) => [path, { post: withSignature(post) }]);
  const whole = { ...document, info: { ...info, description: REPORTS }, paths: Object.fromEntries(signed) };
  return new Map([['schema/control-plane.openapi.json', `${JSON.stringify(whole, null, 2)}\n`]]);
}

interface Document {
  readonly info: object;
  readonly paths: Readonly<Record<string, { readonly post: { readonly parameters?: readonly object[] } }>>;
}

const REPORTS =
  'The server of these paths is CONTROL_PLANE_URL. Orders come until they are answered with 2xx, more than once at times, and those about one host in order. How far a drain has come is reported to POST /api/v1/maintenance/drain-progress of the update server, with the epoch of the order and the header Authorization: Bearer CONTROL_PLANE_TOKEN; completed: true says that the host is empty and stays so. A drain plan is no order: it is asked for once, for somebody who waits for it, and without an answer the update server says that there is none.';

const HEADERS = {
  'webhook-id': 'the same each time that the same order is sent',
  'webhook-timestamp': 'seconds since 1970; refuse what is older or newer than five minutes',
  'webhook-signature':
    'v1, and the base64 of HMAC-SHA256 with CONTROL_PLANE_SECRET over webhook-id.webhook-timestamp.body, joined by full stops',
};

const withSignature = (operation: { parameters?: readonly object[] }): object => ({
  ...operation,
  parameters: [
    ...(operation.parameters ?? []),
    ...Object.entries(HEADERS).map(([name, description]) => ({
      name,
      in: 'header',
      required: true,
      description,
      schema: { type: 'string' },
    })),
  ],
});
