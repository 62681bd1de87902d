import { type Static, Type } from 'typebox';
import type { RouteTable } from './route.ts';

/** How many hosts may be away at once, on the wire. */

export const BUDGET_DOMAIN_PATTERN = '^(?:group:(?:\\*|[a-z0-9][a-z0-9._-]{0,63})|[a-z0-9][a-z0-9._-]{0,63})$';

const domain = Type.String({
  pattern: BUDGET_DOMAIN_PATTERN,
  description: 'group:NAME, group:* for all groups without one of their own, or a label such as rack: each value apart',
});
const ofDomain = Type.Object({ domain });

const limits = {
  max_hosts: Type.Union([Type.Integer({ minimum: 0, maximum: 1_000_000 }), Type.Null()]),
  max_percent: Type.Union([Type.Integer({ minimum: 0, maximum: 100 }), Type.Null()], {
    description: 'of the enrolled hosts there, rounded up',
  }),
};

export const BudgetLimits = Type.Object(limits, {
  additionalProperties: false,
  description: 'the smaller one counts; null: none of this kind',
});
export type BudgetLimits = Static<typeof BudgetLimits>;

export const BudgetRow = Type.Object({
  domain,
  ...limits,
  is_standard: Type.Boolean({ description: 'nobody has set it' }),
});
export type BudgetRow = Static<typeof BudgetRow>;

export const BUDGET_ROUTES = {
  budgets: {
    method: 'GET',
    path: '/api/v1/budgets',
    who: 'viewer',
    summary: 'How many hosts may be away at once, and who holds a place now',
    content: 'json',
    response: Type.Object({
      budgets: Type.Array(BudgetRow),
      away: Type.Array(
        Type.Object({ holder: Type.String(), domains: Type.Array(Type.String()), since: Type.String() }),
      ),
    }),
  },
  setBudget: {
    method: 'PUT',
    path: '/api/v1/budgets/{domain}',
    who: 'admin',
    summary: 'Set a budget; a lower one calls nobody back',
    params: ofDomain,
    body: BudgetLimits,
    content: 'json',
    response: BudgetRow,
  },
  unsetBudget: {
    method: 'DELETE',
    path: '/api/v1/budgets/{domain}',
    who: 'admin',
    summary: 'Back to the standard',
    params: ofDomain,
    content: 'json',
    response: Type.Object({ status: Type.Literal('deleted'), domain }),
  },
} as const satisfies RouteTable;
