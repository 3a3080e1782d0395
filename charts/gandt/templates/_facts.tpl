{{/*
The design's table of services. `calls` are the arrows between services, `reaches` those that leave the release: network
rules, endpoints and certificates all come from here, and tests compare it with the code.
*/}}
{{- define "gandt.facts" -}}
embedding:
  {protocol: grpc, image: cpu, api: gandt.embedding.v1.EmbeddingService, port: 50051, health: 50061, metrics: 9051,
   calls: [], reaches: [objects], startSeconds: 600, objects: true}
vectorsearch:
  {protocol: grpc, image: cpu, api: gandt.vectorsearch.v1.VectorSearchService, port: 50052, health: 50062, metrics: 9052,
   calls: [], reaches: [milvus], startSeconds: 600}
selection:
  {protocol: grpc, image: cpu, api: gandt.selection.v1.SelectionService, port: 50053, health: 50063, metrics: 9053,
   calls: [vectorsearch], reaches: [objects], startSeconds: 120, objects: true}
aggregation:
  {protocol: grpc, image: cpu, api: gandt.aggregation.v1.AggregationService, port: 50054, health: 50064, metrics: 9054,
   calls: [], reaches: [objects], startSeconds: 120, objects: true}
jobcontroller:
  {protocol: grpc, image: controller, api: gandt.jobcontroller.v1.JobControllerService, port: 50055, health: 50065, metrics: 9055,
   calls: [embedding, vectorsearch, selection, aggregation, labeling], reaches: [objects, database, aws], startSeconds: 120, objects: true}
labeling:
  {protocol: http, image: labeling, port: 8080, metrics: 9056,
   calls: [jobcontroller], reaches: [objects, database], startSeconds: 120, objects: true}
{{- end -}}

{{/* Names of the workloads of this release, separated by spaces. */}}
{{- define "gandt.workloads" -}}
{{- if eq .Values.mode "standalone" -}}
standalone
{{- else -}}
embedding vectorsearch selection aggregation jobcontroller{{ if eq .Values.backend.kind "labeling" }} labeling{{ end }}
{{- end -}}
{{- end -}}

{{/* Names of the services in a workload, separated by spaces. */}}
{{- define "gandt.members" -}}
{{- if eq .name "standalone" -}}embedding vectorsearch selection aggregation jobcontroller labeling{{- else -}}{{ .name }}{{- end -}}
{{- end -}}

{{/* Not empty when the workload owns a directory and so runs once, as a StatefulSet. */}}
{{- define "gandt.owns" -}}
{{- $v := .root.Values -}}
{{- if eq .name "standalone" -}}yes
{{- else if and (eq .name "vectorsearch") (not $v.milvus.uri) -}}yes
{{- else if and (has .name (list "jobcontroller" "labeling")) (not $v.database.existingSecret) -}}yes
{{- end -}}
{{- end -}}
