// The panels that our dashboards use, as strict as Grafana's own types allow: JSON has texts where
// these have enumerations, and Grafana's `Panel` lets options be anything.

import type { Dashboard, DataQuery, DataSourceRef, FieldConfig, FieldConfigSource, Panel, RowPanel } from '@grafana/schema';
import type { Options as Gauge } from '@grafana/schema/dist/esm/raw/composable/gauge/panelcfg/x/GaugePanelCfg_types.gen';
import type { Options as Stat } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type { FieldConfig as TimelineField, Options as Timeline } from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type { FieldConfig as TableField, Options as Table } from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type { FieldConfig as SeriesField, Options as Series } from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

/** The same with enumerations as the texts and numbers that stand for them. */
export type Plain<T> = T extends string
  ? `${T}`
  : T extends number
    ? `${T}` extends `${infer N extends number}` ? N : never
    : T extends object
      ? { [K in keyof T]: Plain<T[K]> }
      : T;

/** A query of Grafana's Prometheus data source. */
interface Query extends DataQuery {
  expr: string;
  format?: 'time_series' | 'table' | 'heatmap';
  instant?: boolean;
  range?: boolean;
  legendFormat?: string;
  datasource: DataSourceRef;
}

/** What every panel of ours must have, beside what Grafana wants of it. */
interface Told {
  id: number;
  title: string;
  description: string;
  gridPos: NonNullable<Panel['gridPos']>;
  datasource: DataSourceRef;
  targets: Query[];
}

type Typed<Kind extends string, Options, Field> = Omit<Panel, keyof Told | 'type' | 'options' | 'fieldConfig'> & Told & {
  type: Kind;
  options: Partial<Options>;
  fieldConfig: {
    defaults: Omit<FieldConfig, 'custom'> & { custom?: Partial<Field> };
    overrides: FieldConfigSource['overrides'];
  };
};

type Ours =
  | Typed<'stat', Stat, never>
  | Typed<'gauge', Gauge, never>
  | Typed<'timeseries', Series, SeriesField>
  | Typed<'state-timeline', Timeline, TimelineField>
  | Typed<'table', Table, TableField>;

export type Board = Plain<Omit<Dashboard, 'panels'> & { uid: string; title: string; panels: Array<Ours | RowPanel> }>;
