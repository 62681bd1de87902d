/** How many hosts may be away at once, and where. */

export interface Budget {
  /** `group:NAME`, `group:*` for all others, or a label such as `rack`: each of its values apart. */
  readonly domain: string;
  readonly maxHosts: number | null;
  /** Of the enrolled hosts there, rounded up. */
  readonly maxPercent: number | null;
}

/** Until somebody says otherwise: one host of a group, one of a pair. */
export const STANDARD_BUDGETS: readonly Budget[] = [
  { domain: 'group:*', maxHosts: 1, maxPercent: null },
  { domain: 'ha-pair', maxHosts: 1, maxPercent: null },
];

/** The host that carries the control plane of the others: it goes last. */
export const VDC_DOMAIN = 'vdc=true';

export const groupDomain = (group: string): string => `group:${group}`;

/** What a host counts in: its group, and each of its labels. */
export const domainsOfHost = (group: string, labels: Readonly<Record<string, string>>): readonly string[] => [
  groupDomain(group),
  ...Object.entries(labels).map(([label, value]) => `${label}=${value}`),
];

/** Of one domain such as `group:blue` or `rack=r1`; null when nothing limits it. */
export function budgetOf(domain: string, budgets: readonly Budget[]): Budget | null {
  const names = domain.startsWith('group:') ? [domain, 'group:*'] : [domain.slice(0, domain.indexOf('='))];
  for (const from of [budgets, STANDARD_BUDGETS]) {
    for (const name of names) {
      const found = from.find((budget) => budget.domain === name);
      if (found !== undefined) return found;
    }
  }
  return null;
}

/** Infinity without a limit. `members`: enrolled hosts in the domain. */
export function allowedIn(budget: Budget | null, members: number): number {
  if (budget === null) return Number.POSITIVE_INFINITY;
  const { maxHosts, maxPercent } = budget;
  // Whole hosts times whole percent first: 0.07 * 100 is a little more than 7, and would be rounded up to 8.
  const share = maxPercent === null ? Number.POSITIVE_INFINITY : Math.ceil((members * maxPercent) / 100);
  return Math.min(maxHosts ?? Number.POSITIVE_INFINITY, share);
}
