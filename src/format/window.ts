import { type Static, Type } from 'typebox';

/** A maintenance window as it is configured: local times of a time zone on some days of the week. */

export const DAYS = ['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday'] as const;

const clockTime = (description: string) =>
  Type.String({ pattern: '^(?:[01][0-9]|2[0-3]):[0-5][0-9]$', description: `HH:MM on a 24 hour clock${description}` });

export const Window = Type.Object(
  {
    start: clockTime(''),
    end: clockTime('; not later than start means the next day'),
    timezone: Type.Optional(Type.String({ maxLength: 64, description: 'IANA name; default UTC' })),
    days: Type.Optional(
      Type.Array(Type.Enum([...DAYS]), {
        minItems: 1,
        maxItems: 7,
        description: 'days on which it starts; default all',
      }),
    ),
  },
  { additionalProperties: false },
);
export type Window = Static<typeof Window>;
