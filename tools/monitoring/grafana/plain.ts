// Grafana's types as they look in JSON: an enum member of text is one of the texts.
import type { Dashboard, Panel, RowPanel } from "@grafana/schema";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as series from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

type Plain<T> = unknown extends T
  ? T
  : T extends string
    ? `${T}`
    : T extends number | boolean | null | undefined
      ? T
      : T extends object
        ? { [K in keyof T]: Plain<T[K]> }
        : T;

interface Target {
  refId: string;
  datasource: { type: "prometheus"; uid: "${datasource}" };
  editorMode: "code";
  expr: string;
  legendFormat: string;
  range: boolean;
  instant?: boolean;
}

type Typed<Name extends string, Options, Custom> = Omit<Panel<Options, Custom>, "type" | "options" | "targets" | "fieldConfig"> & {
  type: Name;
  options: Options;
  targets: Target[];
  fieldConfig: { defaults: Omit<NonNullable<Panel["fieldConfig"]>["defaults"], "custom"> & { custom?: Custom }; overrides: [] };
};

export type PlainDashboard = Plain<
  Omit<Dashboard, "panels"> & {
    panels: Array<Typed<"stat", stat.Options, {}> | Typed<"timeseries", series.Options, series.FieldConfig> | RowPanel>;
  }
>;
