window.config = {
  "routerBasename": null,
  "extensions": [],
  "modes": [],
  "showStudyList": true,
  "maxNumberOfWebWorkers": 3,
  "showWarningMessageForCrossOrigin": false,
  "investigationalUseDialog": {"option": "always"},
  "defaultDataSourceName": "orthanc",
  "dataSources": [
    {
      "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
      "sourceName": "orthanc",
      "configuration": {
        "friendlyName": "Orthanc",
        "name": "orthanc",
        "qidoRoot": "/dicom-web",
        "wadoRoot": "/dicom-web",
        "wadoUriRoot": "/dicom-web",
        "qidoSupportsIncludeField": false,
        "supportsReject": false,
        "supportsStow": false,
        "supportsFuzzyMatching": false,
        "supportsWildcard": true,
        "imageRendering": "wadors",
        "thumbnailRendering": "wadors",
        "enableStudyLazyLoad": true,
        "staticWado": false,
        "singlepart": "pdf,video",
        "bulkDataURI": {"enabled": true},
        "omitQuotationForMultipartRequest": true
      }
    }
  ]
};
