import { Argument } from 'commander';
import type { Host } from '../../agent/host.ts';
import type { Mark, MarkTarget } from '../../agent/mark.ts';
import type { SlotInfo } from '../../agent/slots.ts';
import type { ProbeResult } from '../../core/health.ts';
import { isRefusal, type Refusal } from '../../core/plan.ts';
import { EXIT } from '../../errors.ts';
import { formatBytes, table } from '../render.ts';
import { OPERATOR, orThrow, type Verb, type VerbContext } from './verb.ts';

/**
 * The verbs about what boots. They work on the host itself: its agent may be the very thing that is broken. What they need of
 * it is loaded when they run, because the other verbs need none of it.
 */

/** What is refused here never reaches the agent, whose audit log has every refusal. */
async function decided<T extends { readonly kind: string }>(
  { onHost }: VerbContext,
  verb: string,
  journey: (host: Host) => Promise<T | Refusal>,
): Promise<Exclude<T, Refusal>> {
  const result = await onHost(async (host) => {
    const decision = await journey(host);
    if (!isRefusal(decision)) return decision;
    const { auditOwnRefusal } = await import('../../agent/audit-access.ts');
    await auditOwnRefusal(host.audit, decision, { actor: OPERATOR, verb });
    return decision;
  });
  return orThrow(result);
}

export const rollback: Verb<{ readonly reason?: string }> = {
  name: 'rollback',
  summary: 'Take the last update back: its components now, its system image with the next reboot',
  notes: `Works without the agent. The release is remembered and not installed again by itself.
Exit code 0 when it is done, 4 when a reboot finishes it, 3 when there is nothing to take back, 6 while an update runs.`,
  examples: ['qx-update rollback', 'qx-update --rollback', "qx-update rollback --reason 'VMs lose their network'"],
  arguments: (command) => command.option('--reason <text>', 'kept in the journal and in the log'),
  run: async (context, { reason = 'asked for by the operator' }) => {
    const { result } = context;
    const journey = await import('../../agent/rollback.ts');
    const done = await decided(context, 'rollback', (host) => journey.rollback(host, reason));
    const end = done.kind === 'rolled_back' ? '' : '; reboot to finish it';
    result(done, `Rolled back from ${done.from} to ${done.to}${end}.\n`);
    return done.kind === 'rolled_back' ? EXIT.done : EXIT.rebootRequired;
  },
};

export const confirm: Verb = {
  name: 'confirm',
  summary: 'After a reboot into a new system image: keep it if the host is healthy, otherwise go back',
  notes: `Run by the boot script of the image; works without the agent, though an agent that does not answer is not healthy.
Exit code 0 confirmed, 3 nothing to confirm, 6 while an update runs, 1 not healthy: the host reboots, to try it again or
(after health_attempts) into the old image.`,
  examples: ['qx-update confirm', 'qx-update confirm --json'],
  run: async (context) => {
    const { result, note, interrupted } = context;
    const journey = await import('../../agent/confirm.ts');
    const signal = interrupted();
    const done = await decided(context, 'confirm', (host) => journey.confirm(host, { signal }));
    if (done.kind === 'confirmed') {
      for (const { name, detail } of done.warnings) note(`warning: ${name}: ${detail}`);
      result(done, `Version ${done.version} on slot ${done.slot} is confirmed.\n`);
      return EXIT.done;
    }
    const where = done.kind === 'trying_again' ? 'for another try' : 'into the previous image';
    const which = `boot ${done.attempt} of ${done.attempts}`;
    const end = `Version ${done.version} is not healthy in ${which}; the host reboots ${where}.`;
    result(done, `${end}\n${failures(done.failed)}`);
    return EXIT.other;
  },
};

export const health: Verb<{ readonly afterBoot?: boolean }> = {
  name: 'health',
  summary: 'Ask what the health gate asks: service, agent, clock and the programs in health.d',
  notes: `Works without the agent, though an agent that does not answer is not healthy. Changes nothing, unless --after-boot is given.
Exit code 0 healthy, 1 not.`,
  examples: ['qx-update health', "qx-update health --json | jq '.probes[] | select(.ok | not)'"],
  arguments: (command) =>
    command.option(
      '--after-boot',
      'as the boot script: until it is healthy or the time is up; then the host is rebooted, once',
    ),
  run: async ({ onHost, result, note, interrupted }, { afterBoot = false }) => {
    const { lookAtHealth, ordinaryBoot } = await import('../../agent/health.ts');
    const watch = { signal: interrupted() };
    if (!afterBoot) {
      const found = await onHost((host) => lookAtHealth(host, watch));
      result(found, table([['PROBE', 'WELL', ''], ...found.probes.map(probeRow)]));
      return found.healthy ? EXIT.done : EXIT.other;
    }
    const done = await onHost((host) => ordinaryBoot(host, watch));
    if (done.kind === 'healthy') {
      for (const { name, detail } of done.warnings) note(`warning: ${name}: ${detail}`);
      result(done, 'The host is healthy.\n');
      return EXIT.done;
    }
    const end = done.kind === 'rebooting' ? 'it is rebooted' : 'it stays up';
    result(done, `The host is not healthy; ${end}: ${done.reason}\n${failures(done.failed)}`);
    return EXIT.other;
  },
};

const probeRow = ({ name, ok, fatal, detail }: ProbeResult): readonly string[] => [
  name,
  ok ? 'yes' : fatal ? 'no' : 'no (a warning)',
  detail,
];

const failures = (failed: readonly ProbeResult[]): string =>
  failed.map(({ name, detail }) => `  ${name}: ${detail}\n`).join('');

export const mark: Verb = {
  name: 'mark',
  summary: 'Say by hand whether a slot may boot',
  notes: `Works without the agent. Never takes the last slot that can boot, and trusts no slot that nothing was written to.
Exit code 0 when it is done, 4 when the running slot was marked bad and a reboot leaves it.`,
  examples: ['qx-update mark good', 'qx-update mark bad other', 'qx-update mark good B'],
  arguments: (command) =>
    command
      .addArgument(new Argument('<mark>', 'what the slot is').choices(['good', 'bad']))
      .addArgument(new Argument('[slot]', 'which one').choices(['A', 'B', 'booted', 'other']).default('booted')),
  run: async (context, _options, [verdict, slot = 'booted']) => {
    const { result } = context;
    const { markSlot } = await import('../../agent/mark.ts');
    const done = await decided(context, 'mark', (host) => markSlot(host, verdict as Mark, slot as MarkTarget));
    const end = done.kind === 'reboot_required' ? '; reboot to leave it' : '';
    result(done, `Slot ${done.slot} is marked ${done.mark}; slot ${done.next} boots next${end}.\n`);
    return done.kind === 'reboot_required' ? EXIT.rebootRequired : EXIT.done;
  },
};

export const slots: Verb = {
  name: 'slots',
  summary: 'Show both slots: what is on them, and which one boots next',
  notes: 'Works without the agent, and changes nothing. Exit code 0, or 5 when you are not root.',
  examples: ['qx-update slots', "qx-update slots --json | jq -r '.slots[] | select(.next) | .slot'"],
  run: async ({ onHost, result }) => {
    const { slotTable } = await import('../../agent/slots.ts');
    const found = await onHost(slotTable);
    result({ slots: found }, slotsText(found));
    return EXIT.done;
  },
};

const HEAD = ['SLOT', 'RUNS', 'NEXT', 'STATE', 'TRIES', 'VERSION', 'WRITTEN', 'SIZE', 'DEVICE'];

const slotsText = (found: readonly SlotInfo[]): string => table([HEAD, ...found.map(slotRow)]);

function slotRow(info: SlotInfo): string[] {
  const { slot, running, next, tries, version, writtenAt, sizeBytes, device } = info;
  const orNone = (value: string | number | null) => (value === null ? '-' : String(value));
  return [
    slot,
    running ? 'yes' : 'no',
    next ? 'yes' : 'no',
    slotState(info),
    orNone(tries),
    orNone(version),
    orNone(writtenAt),
    sizeBytes === null ? '-' : formatBytes(sizeBytes),
    orNone(device),
  ];
}

function slotState({ ok, onTrial }: SlotInfo): string {
  if (ok === null) return 'unknown';
  if (ok) return 'good';
  return onTrial ? 'on trial' : 'not bootable';
}
